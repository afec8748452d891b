"""tile: what a plan computes on several hosts side by side becomes ops with a host each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import onnx

from partc.errors import PassError
from partc.ir.cost import Cost, CostTable
from partc.ir.program import Program, captured_names
from partc.ir.tiling import Tiled, TileGroup
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.tiling.bound import Binder
from partc.passes.tiling.branches import Branching
from partc.passes.tiling.channels import InputChannels
from partc.passes.tiling.checking import check_group, in_order
from partc.passes.tiling.lowering import Bound, Lowered, Lowering
from partc.passes.tiling.moving import blocks_of, transfers_of_placement

# Copying rows is bound by memory; a small x86 machine moves several GB/s in each direction.
_COPY_S_PER_BYTE = 5e-10


@dataclass(frozen=True)
class Tile(Pass):
    """Rewrites the program so that its tiles are plain ONNX: convolutions with explicit pads,
    Slices of the rows that another host needs, Concats where rows are put together.

    A tile of block ``b`` on host ``h`` is block ``b@h``. Its cost is that of this name in the
    table of costs if there is one (a measured tile), else the block's own, scaled by its share of
    the rows and marked as estimated. Without tiles in the plan nothing is changed.
    """

    name: ClassVar[str] = "tile"
    kind: ClassVar[Literal["analysis", "transformation"]] = "transformation"
    requires: ClassVar[tuple[str, ...]] = ("placed", "blocked", "typed")
    ensures: ClassVar[tuple[str, ...]] = ("well-formed", "typed", "blocked", "placed")

    def run(self, program: Program, context: Context) -> PassResult:
        """Check every group, then write all of them at once."""
        if program.plan is None:
            raise PassError("tile needs a plan; run partition before it", pass_name=self.name)
        if not program.plan.tiling:
            return PassResult(program, modified=False)
        binder = Binder(program)
        groups = in_order(program, program.plan.tiling)
        topology = context.topology
        bound = [(group, check_group(program, topology, binder, group)) for group in groups]
        lowered = Lowering(program, topology, binder).run(bound)
        tiled = _program(program, context, lowered)
        own = {block for group in groups for block in group.blocks}
        tiled = replace(
            tiled,
            tiled=Tiled(
                groups=tuple(groups),
                model=program.model,
                tensors=program.tensors,
                parts=lowered.parts,
                rows=lowered.rows,
                sizes=_sizes(bound),
                blocks={b.name: b.ops for b in program.blocks or () if b.name in own},
                seconds=_seconds(program, own),
            ),
        )
        notices: tuple[str, ...] = ()
        if program.portfolio is not None:
            notices = (
                "the plans for changing conditions were left out: they have no tiles, and one "
                "bundle cannot hold both yet",
            )
            tiled = replace(tiled, portfolio=None, notices=(*program.notices, *notices))
        hosts = {host for group in groups for host in group.hosts}
        said = f"{len(groups)} groups of tiles on {len(hosts)} hosts, {len(tiled.ops)} ops"
        return PassResult(tiled, True, (said, *notices))


def _sizes(bound: Sequence[tuple[TileGroup, Bound]]) -> dict[str, int]:
    """Op -> how many rows the whole has; where input channels are split, how many it reads; of
    branches, where nothing is cut, one."""
    sizes: dict[str, int] = {}
    for group, ops in bound:
        if isinstance(ops, InputChannels):
            sizes[ops.op.name] = group.bounds[-1]
        elif isinstance(ops, Branching):
            sizes.update((op.name, 1) for op in ops.ops)
        else:
            sizes.update((each.op.name, each.geometry.rows) for each in ops.ops)
    return sizes


def _seconds(program: Program, blocks: set[str]) -> dict[str, float]:
    if program.costs is None:
        return {}
    return {
        name: min(cost.median_s for cost in row.values())
        for name, row in program.costs.costs.items()
        if name in blocks and row
    }


def _program(program: Program, context: Context, lowered: Lowered) -> Program:
    assert program.plan is not None
    model = _model(program.model, lowered)
    bare = replace(
        program, model=model, blocks=None, segments=None, verification=None, tensors=lowered.tensors
    )
    known = {*bare.inputs, *bare.producer}
    bare = replace(bare, tensors={n: info for n, info in lowered.tensors.items() if n in known})
    placement = {op.name: lowered.host_of[op.name] for op in bare.placed_ops}
    blocked = replace(bare, blocks=blocks_of(bare, lowered.block_of))
    plan = replace(
        program.plan,
        placement=placement,
        tiling=(),
        transfers=transfers_of_placement(
            blocked, context.topology, placement, program.plan.transfers
        ),
    )
    return replace(blocked, plan=plan, costs=_costs(program, context, lowered, placement, blocked))


def _model(original: onnx.ModelProto, lowered: Lowered) -> onnx.ModelProto:
    model = onnx.ModelProto(
        ir_version=original.ir_version,
        producer_name=original.producer_name,
        producer_version=original.producer_version,
        domain=original.domain,
        model_version=original.model_version,
        doc_string=original.doc_string,
    )
    model.opset_import.extend(original.opset_import)
    model.functions.extend(original.functions)
    model.metadata_props.extend(original.metadata_props)
    graph = model.graph
    graph.name, graph.doc_string = original.graph.name, original.graph.doc_string
    graph.input.extend(original.graph.input)
    graph.output.extend(original.graph.output)
    graph.node.extend(lowered.nodes)
    graph.metadata_props.extend(original.graph.metadata_props)
    read = {name for node in lowered.nodes for name in (*node.input, *captured_names(node))}
    read.update(output.name for output in original.graph.output)
    weights = (*original.graph.initializer, *lowered.weights.values())
    graph.initializer.extend(weight for weight in weights if weight.name in read)
    graph.sparse_initializer.extend(
        weight for weight in original.graph.sparse_initializer if weight.values.name in read
    )
    return model


def _costs(
    program: Program,
    context: Context,
    lowered: Lowered,
    placement: Mapping[str, str],
    tiled: Program,
) -> CostTable | None:
    if program.costs is None:
        return None
    table = program.costs.costs
    costs: dict[str, Mapping[str, Cost]] = {}
    for block in tiled.blocks or ():
        host = placement[block.ops[0]]
        known = table.get(block.name, {})
        if block.name in lowered.shares:
            source, share = lowered.shares[block.name]
            if block.name != source and host in known:
                costs[block.name] = {host: known[host]}
            else:
                whole = program.costs.of(source, host)
                costs[block.name] = {host: _estimate(whole.median_s * share)}
        elif block.name in lowered.moved_bytes:
            slowdown = context.topology.hosts[host].slowdown
            moved_s = lowered.moved_bytes[block.name] * _COPY_S_PER_BYTE * slowdown
            costs[block.name] = {host: known.get(host, _estimate(moved_s))}
        else:
            costs[block.name] = dict(known)
    return replace(program.costs, costs=costs)


def _estimate(seconds: float) -> Cost:
    return Cost(median_s=seconds, spread_s=0.0, samples=0, provenance="estimated")
