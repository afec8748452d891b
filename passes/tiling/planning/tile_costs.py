"""What a part of a block's rows costs: a tile's time is not its share of the whole's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from partc.ir.program import Program
from partc.ir.tensor import TensorInfo
from partc.ir.tiling import TileGroup, shares_to_bounds
from partc.ir.topology import Topology
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.annotate.group_blocks import GroupBlocks
from partc.passes.contract import Context
from partc.passes.ingest.fold_constants import FoldConstants
from partc.passes.ingest.infer_shapes import InferShapes
from partc.passes.ingest.read_model import read_model
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.passes.lower.segment_models import constant_ops_of
from partc.passes.surgery import Extractor
from partc.passes.tiling.ranges import TileableRange
from partc.passes.tiling.tile import Tile
from partc.passes.tiling.work import RangeWork
from partc.targets.protocol import RunSettings
from partc.targets.settings import run_settings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileCosts:
    """Seconds of a block's tile as a line in its share of the rows.

    Attributes:
        points: host -> block -> (share, seconds) of a tile that was measured there.
        factors: what candidates are priced as -> by how much longer their tiles were found to
            take.
    """

    program: Program
    points: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)

    def lines(self, blocks: Sequence[str], hosts: Sequence[str]) -> tuple[Floats, Floats]:
        """(blocks, hosts): fixed seconds, and seconds of all the rows beyond them.

        NaN where a host cannot run a block.
        """
        assert self.program.costs is not None
        fixed = np.zeros((len(blocks), len(hosts)))
        slope = np.full((len(blocks), len(hosts)), np.nan)
        for k, host in enumerate(hosts):
            known = self.points.get(host, {})
            for b, block in enumerate(blocks):
                if not self.program.costs.supports(block, host):
                    continue
                whole_s = self.program.costs.of(block, host).median_s
                share, seconds = known.get(block, (0.0, 0.0))
                if 0 < share < 1:
                    fixed[b, k] = min(max(0.0, (seconds - share * whole_s) / (1 - share)), whole_s)
                slope[b, k] = whole_s - fixed[b, k]
        return fixed, slope


def measured_points(
    program: Program, context: Context, tileable: TileableRange, hosts: Sequence[str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Measure the first tile of an even split of the range, on each kind of host.

    Halos are exchanged at every cut, so that each block computes little more than its own rows:
    far from the whole, whose time is known. The tile is written as it would be deployed, in the
    host's precision, and measured as any model is, block by block, with costs from the store where
    it has them.

    Raises:
        PassError: the tile cannot be made.
        TargetError: it cannot be measured.
    """
    cuts = range(1, len(tileable.cuts))
    bounds = [shares_to_bounds(rows, [1.0] * len(hosts)) for rows in tileable.rows]
    share_of: dict[str, float] = {}
    work = RangeWork(tileable)
    for last in cuts:
        found = work.ending_in(last, [list(bounds[last])])
        own = found.stage_of == last - 1
        names = [block for block, is_own in zip(found.blocks, own, strict=True) if is_own]
        share_of.update(zip(names, found.share[own, 0, 0].tolist(), strict=True))
    groups = tuple(tileable.group(last - 1, last, hosts, bounds[last]) for last in cuts)
    tile = _first_tile(program, context, groups, hosts)
    points: dict[str, dict[str, tuple[float, float]]] = {}
    done: dict[tuple[str, str, RunSettings], str] = {}
    for host in hosts:
        settings = context.topology.hosts[host]
        meter = context.meter(host)
        if not meter.detect().available:
            continue
        key = (meter.backend_name, meter.where, run_settings(settings))
        if key in done:
            other = context.topology.hosts[done[key]].slowdown
            points[host] = {
                block: (share, seconds * settings.slowdown / other)
                for block, (share, seconds) in points[done[key]].items()
            }
            continue
        done[key] = host
        points[host] = {
            block: (share_of[block], took_s)
            for block, took_s in _seconds_of_blocks(tile, context, host).items()
            if block in share_of
        }
    return points


@dataclass(frozen=True)
class _TileModel:
    """A tile as a program of its own; op of it -> block of the program as it was."""

    program: Program
    block_of: Mapping[str, str]


def _first_tile(
    program: Program, context: Context, groups: tuple[TileGroup, ...], hosts: Sequence[str]
) -> _TileModel:
    """All tiles of the first host as one model; what comes from elsewhere is an input of it."""
    assert program.plan is not None
    plan = replace(
        program.plan,
        placement={op.name: hosts[-1] for op in program.placed_ops},
        tiling=groups,
        transfers=(),
    )
    tiled = Tile().run(replace(program, plan=plan, portfolio=None), context).program
    of = f"@{hosts[0]}"
    blocks = [block for block in tiled.blocks or () if block.name.endswith(of)]
    ops = [tiled.op_by_name[op] for block in blocks for op in block.ops]
    names = {op.name for op in ops}
    written = {tensor for op in ops for tensor in op.outputs}
    read = dict.fromkeys(
        tensor
        for op in ops
        for tensor in op.inputs
        if tensor not in written and tensor not in tiled.constant_tensors
    )
    left = [
        tensor
        for op in ops
        for tensor in op.outputs
        if any(reader.name not in names for reader in tiled.consumers.get(tensor, ()))
    ]
    model = Extractor(tiled.model).extract(
        {*names, *constant_ops_of(tiled, ops)},
        [value_info(tensor, _as_planned(tiled.tensor(tensor))) for tensor in read],
        [value_info(tensor, _as_planned(tiled.tensor(tensor))) for tensor in left],
        "tile",
    )
    block_of = {op: block.name.removesuffix(of) for block in blocks for op in block.ops}
    return _TileModel(read_model(model), block_of)


def _as_planned(info: TensorInfo) -> TensorInfo:
    """With the sizes that costs are taken for where the model leaves them open."""
    return info if info.planned_shape is None else replace(info, shape=info.planned_shape)


def _seconds_of_blocks(tile: _TileModel, context: Context, host: str) -> dict[str, float]:
    alone = Topology(hosts={host: context.topology.hosts[host]})
    meters = {host: context.meters[host]} if host in context.meters else {}
    inner = replace(context, topology=alone, meters=meters)
    program = InferShapes().run(tile.program, inner).program
    # A tile reads what no calibration sample holds. Which ranges int8 takes does not change times.
    inner = replace(inner, calibration=(sample_feeds(program, context.seed),), kept={})
    for step in (FoldConstants(), GroupBlocks(), AnnotateCosts()):
        program = step.run(program, inner).program
    assert program.costs is not None
    found: dict[str, float] = {}
    for block in program.blocks or ():
        names = [tile.block_of[op] for op in block.ops if tile.block_of.get(op)]
        if names:  # what merely cuts off or puts together is not of a block
            seconds = program.costs.of(block.name, host).median_s
            for name in dict.fromkeys(names):
                found[name] = found.get(name, 0.0) + seconds / len(dict.fromkeys(names))
    return found
