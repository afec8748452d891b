"""Blocks and transfers of a rewritten program, from where its ops are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from partc.ir.plan import Transfer
from partc.ir.program import Block, Op, Program
from partc.ir.topology import Topology
from partc.passes.annotate.group_blocks import block_of_ops
from partc.passes.lower.routes import HostTree, Routes
from partc.passes.lower.schedule import root_host

_BYTES_PER_S_OF_ONE_MBIT_S = 1e6 / 8


def blocks_of(program: Program, block_of: Mapping[str, str]) -> tuple[Block, ...]:
    """Ops by the block named for them, in an order in which the blocks can run."""
    members: dict[str, list[Op]] = {}
    for op in program.placed_ops:
        members.setdefault(block_of[op.name], []).append(op)
    graph = nx.DiGraph()
    graph.add_nodes_from(members)
    for op in program.placed_ops:
        for tensor in op.inputs:
            producer = program.producer.get(tensor)
            if producer is None or producer.is_constant:
                continue
            source = block_of[producer.name]
            if source != block_of[op.name]:
                graph.add_edge(source, block_of[op.name])
    position = {op.name: i for i, op in enumerate(program.placed_ops)}
    order = nx.lexicographical_topological_sort(graph, key=lambda b: position[members[b][0].name])
    return tuple(block_of_ops(program, members[name], name) for name in order)


def transfers_of_placement(
    program: Program,
    topology: Topology,
    placement: Mapping[str, str],
    planned: Iterable[Transfer],
) -> tuple[Transfer, ...]:
    """Every tensor that moves, hop by hop; those that were planned keep their way, codec and
    time."""
    planned = tuple(planned)
    known = {(t.tensor, t.sender, t.receiver): t for t in planned}
    routes = Routes(HostTree.of(topology, root_host(program, topology)), planned)
    found: list[Transfer] = []
    for tensor, writer, readers in _moves(program, topology, placement):
        for receiver, sender in routes.spread(tensor, writer, readers).items():
            way = (tensor, sender, receiver)
            found.append(known.get(way) or _transfer(program, topology, *way))
    return tuple(found)


def _moves(
    program: Program, topology: Topology, placement: Mapping[str, str]
) -> Iterable[tuple[str, str, list[str]]]:
    home = {name: topology.input_home(name) for name in program.inputs}
    for op in program.placed_ops:
        home.update(dict.fromkeys(op.outputs, placement[op.name]))
    for tensor, writer in home.items():
        readers = [placement[op.name] for op in program.consumers.get(tensor, ())]
        if tensor in program.outputs:
            readers.append(topology.output_home(tensor))
        yield tensor, writer, readers


def _transfer(
    program: Program, topology: Topology, tensor: str, sender: str, receiver: str
) -> Transfer:
    link = topology.link_between(sender, receiver)
    info = program.tensor(tensor)
    size = info.size_bytes if info.is_sized else 0
    seconds = size / (link.mbit_s(sender) * _BYTES_PER_S_OF_ONE_MBIT_S) + link.rtt_ms * 0.5e-3
    return Transfer(tensor, sender, receiver, size, seconds)
