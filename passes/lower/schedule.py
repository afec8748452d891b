"""From a host for every op to segments; `calls` goes on from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from partc.ir.program import Op, Program
from partc.ir.segment import Segment
from partc.passes.lower.calls import make_calls, root_host

__all__ = ["make_calls", "make_segments", "root_host"]


def make_segments(program: Program, placement: Mapping[str, str]) -> tuple[Segment, ...]:
    """Segments in an order in which they can run; their models are not made yet.

    The stage of an op is the number of changes of host on the longest way to it. Ops of one
    host and one stage wait for nobody in between, so the graph of segments has no cycle; ops of
    a segment are connected, by an edge or by a tensor that both read. A block that is on one
    host has one stage, that of its last input, and so stays in one segment.
    """
    units = _units(program, placement)
    stage = _stages(program, placement, units)
    members = nx.Graph()
    for op in program.placed_ops:
        members.add_edge(op.name, ("unit", units[op.name]))
        for tensor in op.inputs:
            if tensor not in program.constant_tensors:
                # Readers of one tensor on one host and stage meet in this node.
                members.add_edge(op.name, ("reads", tensor, placement[op.name], stage[op.name]))
        for tensor in op.outputs:
            members.add_edge(op.name, ("reads", tensor, placement[op.name], stage[op.name]))
    position = {op.name: index for index, op in enumerate(program.placed_ops)}
    groups = [
        sorted((n for n in component if isinstance(n, str)), key=position.__getitem__)
        for component in nx.connected_components(members)
    ]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: (stage[group[0]], position[group[0]]))
    return tuple(
        _segment(program, f"s{index}", placement[group[0]], group)
        for index, group in enumerate(groups)
    )


def _units(program: Program, placement: Mapping[str, str]) -> dict[str, str]:
    """Op -> what it shares a stage with: its block, or itself where the block has two hosts."""
    units = {op.name: op.name for op in program.placed_ops}
    for block in program.blocks or ():
        if len({placement[op] for op in block.ops}) == 1:
            units.update(dict.fromkeys(block.ops, block.name))
    return units


def _stages(
    program: Program, placement: Mapping[str, str], units: Mapping[str, str]
) -> dict[str, int]:
    host_of = {units[op.name]: placement[op.name] for op in program.placed_ops}
    graph = nx.DiGraph()
    graph.add_nodes_from(host_of)
    for op in program.placed_ops:
        for producer in _producers(program, op):
            if units[producer.name] != units[op.name]:
                graph.add_edge(units[producer.name], units[op.name])
    stage: dict[str, int] = {}
    for unit in nx.topological_sort(graph):
        stage[unit] = max(
            (stage[p] + (host_of[p] != host_of[unit]) for p in graph.predecessors(unit)),
            default=0,
        )
    return {op.name: stage[units[op.name]] for op in program.placed_ops}


def _producers(program: Program, op: Op) -> Iterable[Op]:
    for tensor in op.inputs:
        producer = program.producer.get(tensor)
        if producer is not None and not producer.is_constant:
            yield producer


def _segment(program: Program, segment_id: str, host: str, ops: list[str]) -> Segment:
    inside = set(ops)
    members = [program.op_by_name[name] for name in ops]
    written = {tensor for op in members for tensor in op.outputs}
    inputs = dict.fromkeys(
        tensor
        for op in members
        for tensor in op.inputs
        if tensor not in written and tensor not in program.constant_tensors
    )
    outputs = [
        tensor
        for op in members
        for tensor in op.outputs
        if tensor in program.outputs
        or any(reader.name not in inside for reader in program.consumers.get(tensor, ()))
    ]
    return Segment(segment_id, host, tuple(ops), tuple(inputs), tuple(outputs))
