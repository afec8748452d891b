"""What a part of a block's rows costs: a tile's time is not its share of the whole's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from partc.errors import PartcError
from partc.ir.program import Program
from partc.ir.tiling import shares_to_bounds
from partc.ir.topology import Topology
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.annotate.group_blocks import GroupBlocks
from partc.passes.contract import Context
from partc.passes.ingest.fold_constants import FoldConstants
from partc.passes.ingest.infer_shapes import InferShapes
from partc.passes.ingest.read_model import read_model
from partc.passes.lower.segment_models import SegmentMaker
from partc.passes.tiling.ranges import TileableRange
from partc.passes.tiling.tile import Tile
from partc.passes.tiling.work import RangeWork

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileCosts:
    """Seconds of a block's tile as a line in its share of the rows.

    Attributes:
        points: host -> block -> (share, seconds) of a tile that was measured there.
        factors: name of a sharing -> by how much longer its tiles were found to take.
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
    """Measure the first tile of an even split of the whole range, on each kind of host.

    The tile is written as it would be deployed and measured as any model is: block by block, with
    costs from the store where it has them.

    Raises:
        PartcError: the tile cannot be made or measured.
    """
    last = len(tileable.cuts) - 1
    bounds = shares_to_bounds(tileable.rows[last], [1.0] * len(hosts))
    work = RangeWork(tileable).ending_in(last, [list(bounds)])
    share_of = dict(zip(work.blocks, work.share[:, 0, 0].tolist(), strict=True))
    model_of = _first_tile(program, context, tileable, hosts, bounds)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    done: dict[tuple[str, str, object], str] = {}
    for host in hosts:
        settings = context.topology.hosts[host]
        meter = context.meter(host)
        if not meter.detect().available:
            continue
        key = (meter.backend_name, meter.where, settings.model_copy(update={"slowdown": 1.0}))
        if key in done:
            other = context.topology.hosts[done[key]].slowdown
            found[host] = {
                block: (share, seconds * settings.slowdown / other)
                for block, (share, seconds) in found[done[key]].items()
            }
            continue
        done[key] = host
        seconds = _seconds_of_blocks(model_of, context, host)
        found[host] = {
            block: (share_of[block], took_s)
            for block, took_s in seconds.items()
            if block in share_of
        }
    return found


@dataclass(frozen=True)
class _TileModel:
    """A tile as a program of its own; op of it -> block of the program as it was."""

    program: Program
    block_of: Mapping[str, str]


def _first_tile(
    program: Program,
    context: Context,
    tileable: TileableRange,
    hosts: Sequence[str],
    bounds: Sequence[int],
) -> _TileModel:
    assert program.plan is not None
    elsewhere = hosts[-1]
    group = tileable.group(0, len(tileable.cuts) - 1, hosts, bounds)
    plan = replace(
        program.plan,
        placement={op.name: elsewhere for op in program.placed_ops},
        tiling=(group,),
        transfers=(),
    )
    tiled = Tile().run(replace(program, plan=plan, portfolio=None), context).program
    assert tiled.plan is not None
    segments = SegmentMaker(tiled).segments(tiled.plan.placement)
    mine = max((s for s in segments if s.host == hosts[0]), key=lambda s: len(s.ops))
    assert mine.model is not None
    block_of = {op: tiled.block_of[op].name.rpartition("@")[0] for op in mine.ops}
    return _TileModel(read_model(mine.model), block_of)


def _seconds_of_blocks(tile: _TileModel, context: Context, host: str) -> dict[str, float]:
    alone = Topology(hosts={host: context.topology.hosts[host]})
    meters = {host: context.meters[host]} if host in context.meters else {}
    inner = replace(context, topology=alone, meters=meters)
    program = tile.program
    for step in (InferShapes(), FoldConstants(), GroupBlocks(), AnnotateCosts()):
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


def worth_measuring(error: PartcError) -> str:
    """Why tiles were not measured, for people."""
    return f"tiles could not be measured ({error}), so their costs are estimated from whole blocks"
