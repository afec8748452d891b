"""group-blocks: ops that a backend runs as one kernel become one unit of placement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import networkx as nx

from partc.ir.program import Block, Op, Program
from partc.passes.annotate.deployed_model import deployed_model
from partc.passes.contract import Context, Pass, PassResult
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.protocol import RunSettings
from partc.targets.settings import run_settings


@dataclass(frozen=True)
class GroupBlocks(Pass):
    """Groups ops into blocks that no host's fusion crosses.

    A cut inside of a fused kernel makes both halves slower than their costs say, so where
    hosts fuse differently the blocks are the union of their groups. Ops joined by something
    that cannot be sent (a sequence, an optional, bfloat16) share a block too. Blocks that would
    wait for each other become one.

    Attributes:
        fused: off puts every op in a block of its own, to study cuts inside of kernels.
    """

    name: ClassVar[str] = "group-blocks"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("well-formed", "typed")
    ensures: ClassVar[tuple[str, ...]] = ("blocked",)

    fused: bool = True

    def run(self, program: Program, context: Context) -> PassResult:
        """Read each backend's fusion, and close the groups."""
        graph = nx.Graph()
        graph.add_nodes_from(op.name for op in program.placed_ops)
        if self.fused:
            context.progress("reading kernel fusion", None)
            for group in _fused_groups(program, context):
                nx.add_path(graph, group)
        for op in program.placed_ops:
            for tensor in op.outputs:
                if not program.tensor(tensor).can_cross:
                    readers = program.consumers.get(tensor, ())
                    nx.add_path(graph, [op.name, *(reader.name for reader in readers)])
        groups = _acyclic_groups(program, graph)
        blocks = tuple(block_of_ops(program, members) for members in groups)
        return PassResult(replace(program, blocks=blocks), True, (f"{len(blocks)} blocks",))


def _fused_groups(program: Program, context: Context) -> Iterable[tuple[str, ...]]:
    seen: set[tuple[str, str, RunSettings]] = set()
    for name, host in context.topology.hosts.items():
        meter = context.meter(name)
        settings = run_settings(host)
        key = (meter.backend_name, meter.where, settings)
        if key in seen:
            continue
        seen.add(key)
        if name in context.imports or isinstance(meter, DataSheetMeter):
            yield from meter.fused_groups(program.model, settings)
            continue
        deployed = deployed_model(program, context, name)
        yield from deployed.grouped(meter.fused_groups(deployed.model, settings))


def _acyclic_groups(program: Program, graph: nx.Graph) -> list[list[Op]]:
    """Groups in an order in which they can run; cycles of groups merged into one."""
    group_of = {
        name: index
        for index, members in enumerate(nx.connected_components(graph))
        for name in members
    }
    quotient = nx.DiGraph()
    quotient.add_nodes_from(set(group_of.values()))
    for op in program.placed_ops:
        for tensor in op.inputs:
            producer = program.producer.get(tensor)
            if producer is not None and producer.name in group_of:
                quotient.add_edge(group_of[producer.name], group_of[op.name])
    condensed = nx.condensation(quotient)
    member_of = {
        group: component
        for component, data in condensed.nodes(data=True)
        for group in data["members"]
    }
    members: dict[int, list[Op]] = {}
    for op in program.placed_ops:
        members.setdefault(member_of[group_of[op.name]], []).append(op)
    first = {op.name: index for index, op in enumerate(program.placed_ops)}
    order = nx.lexicographical_topological_sort(
        condensed, key=lambda component: first[members[component][0].name]
    )
    return [members[component] for component in order]


def block_of_ops(program: Program, ops: list[Op], name: str | None = None) -> Block:
    """A block of these ops, which are in an order in which they can run."""
    inside = {op.name for op in ops}
    written = {tensor for op in ops for tensor in op.outputs}
    inputs = dict.fromkeys(
        tensor
        for op in ops
        for tensor in op.inputs
        if tensor not in written and tensor not in program.constant_tensors
    )
    outputs = [
        tensor
        for op in ops
        for tensor in op.outputs
        if tensor in program.outputs
        or any(reader.name not in inside for reader in program.consumers.get(tensor, ()))
    ]
    return Block(
        name=name or ops[0].name,
        ops=tuple(op.name for op in ops),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        weights=tuple(dict.fromkeys(weight for op in ops for weight in _weights(program, op))),
    )


def _weights(program: Program, op: Op) -> Iterable[str]:
    """Weights the op reads, and those from which its constant inputs are computed."""
    yield from op.weights
    for tensor in op.inputs:
        if tensor in program.constant_tensors:
            yield from _weights(program, program.producer[tensor])
