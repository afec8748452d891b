"""The horizontal problem of a program: its placement problem, with arcs from tables of geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partc.errors import UsageError
from partc.ir.tiling import TileGroup, shares_to_bounds
from partc.optimizer import Problem
from partc.optimizer.horizontal import (
    Arc,
    Gather,
    HorizontalProblem,
    TiledRange,
    Tiling,
    arcs_from_tables,
    gathers_from_table,
)
from partc.passes.tiling.planning.arc_weights import WeightSizes, with_held_parts
from partc.passes.tiling.planning.branch_arcs import BranchCandidate, with_mixed_halos
from partc.passes.tiling.planning.hosts import Sharing
from partc.passes.tiling.planning.tile_costs import Floats, TileCosts
from partc.passes.tiling.ranges import TileableRange
from partc.passes.tiling.work import GroupWork, RangeWork


@dataclass(frozen=True)
class Candidate:
    """One range tiled in one sharing.

    Attributes:
        bounds: for each cut tensor where it is cut; None where it has too few rows.
    """

    tileable: TileableRange
    sharing: Sharing
    name: str
    bounds: tuple[tuple[int, ...] | None, ...]

    @property
    def priced_as(self) -> str:
        """Candidates of one name are corrected together."""
        return self.sharing.name

    def group(self, entry: str, exit: str) -> TileGroup:
        """The blocks between two of its cuts as a group of tiles."""
        first, last = self.tileable.cuts.index(entry), self.tileable.cuts.index(exit)
        bounds = self.bounds[last]
        assert bounds is not None
        return self.tileable.group(first, last, self.sharing.hosts, bounds)


@dataclass(frozen=True)
class TilingProblem:
    """The problem and what its tilings stand for."""

    problem: HorizontalProblem
    candidates: tuple[Candidate | BranchCandidate, ...]

    def groups(self, tiles: Sequence[TiledRange]) -> tuple[TileGroup, ...]:
        """The tiles of a solution, as the program has them."""
        by_name = {each.name: each for each in self.candidates}
        return tuple(by_name[t.tiling].group(t.entry, t.exit) for t in tiles)


def candidates_of(
    ranges: Sequence[TileableRange], shared: Sequence[Sharing]
) -> tuple[Candidate, ...]:
    """Every range in every sharing."""
    found: list[Candidate] = []
    for number, tileable in enumerate(ranges):
        for sharing in shared:
            bounds = tuple(_bounds(rows, sharing) for rows in tileable.rows)
            found.append(Candidate(tileable, sharing, f"{number}|{sharing.name}", bounds))
    return tuple(found)


def tiling_problem(
    placement: Problem, candidates: Sequence[Candidate | BranchCandidate], costs: TileCosts
) -> TilingProblem:
    """The placement problem with an arc for every part of every candidate.

    Args:
        placement: without codecs; its ops are blocks.
    """
    arcs: list[Arc] = []
    gathers: list[Gather] = []
    tilings: list[Tiling] = []
    works: dict[int, RangeWork] = {}
    weights = list(placement.weights)
    sizes = WeightSizes.of(placement)
    for each in candidates:
        tiling = Tiling(name=each.name, hosts=each.sharing.hosts, shares=each.sharing.shares)
        if isinstance(each, BranchCandidate):
            tilings.append(tiling)
            arcs += each.arcs(costs.factors.get(each.priced_as, 1.0))
            gathers += each.gathers()
            continue
        work = works.setdefault(id(each.tileable), RangeWork(each.tileable))
        made, of_exits = _arcs(each, work, tiling, costs)
        if made:
            if sizes is not None:
                made, parts = with_held_parts(made, of_exits, each.tileable, tiling, sizes)
                weights += parts
            tilings.append(tiling)
            arcs += made
            gathers += _gathers(each, tiling)
    branching = frozenset(each.name for each in candidates if isinstance(each, BranchCandidate))
    arcs = with_mixed_halos(arcs, gathers, {tiling.name: tiling for tiling in tilings}, branching)
    problem = HorizontalProblem(
        **{name: getattr(placement, name) for name in _SHARED_FIELDS},
        weights=tuple(weights),
        tilings=tuple(tilings),
        arcs=tuple(arcs),
        gathers=tuple(gathers),
    )
    return TilingProblem(problem, tuple(candidates))


_SHARED_FIELDS = (
    "objective",
    "hosts",
    "links",
    "bus",
    "routes",
    "ops",
    "tensors",
    "inputs",
    "outputs",
    "constraints",
    "energy_hosts",
)


def _bounds(rows: int, sharing: Sharing) -> tuple[int, ...] | None:
    try:
        return shares_to_bounds(rows, sharing.shares)
    except UsageError:
        return None


def _arcs(
    each: Candidate, work: RangeWork, tiling: Tiling, costs: TileCosts
) -> tuple[tuple[Arc, ...], dict[int, GroupWork]]:
    """The arcs, and by the position of their exit among the cuts the work behind them."""
    of_exits: dict[int, GroupWork] = {}
    cuts, tiles = each.tileable.cuts, len(each.sharing.hosts)
    count = len(cuts)
    tile_s = np.full((count, count, tiles), np.nan)
    entry_bytes = np.full((count, count, tiles), np.nan)
    halo_bytes = np.full((count, count, tiles, tiles), np.nan)
    fixed, slope = costs.lines(each.tileable.blocks, each.sharing.hosts)
    factor = costs.factors.get(each.priced_as, 1.0)
    for last in range(1, count):
        bounds = each.bounds[last]
        if bounds is None:
            continue
        found = of_exits[last] = work.ending_in(last, [list(bounds)])
        blocks = len(found.blocks)
        share = found.share[:, 0, :]
        seconds = np.where(share > 0, fixed[:blocks] + slope[:blocks] * share, 0.0) * factor
        tile_s[:last, last] = _from_stage_on(seconds, found.stage_of, last)
        for first in range(last):
            begin, end = found.begin[first, 0], found.end[first, 0]
            entry_bytes[first, last] = work.scatter_bytes(first, begin, end)
            owned = each.bounds[first]
            if owned is not None:
                halo_bytes[first, last] = work.exchange_bytes(first, begin, end, owned)
    return arcs_from_tables(cuts, tiling, tile_s, entry_bytes, halo_bytes), of_exits


def _from_stage_on(seconds: Floats, stage_of: np.ndarray, last: int) -> Floats:
    """(last, K): what each host computes from each cut on."""
    of_stage = np.zeros((last, seconds.shape[1]))
    np.add.at(of_stage, stage_of, seconds)
    result: Floats = np.cumsum(of_stage[::-1], axis=0)[::-1]
    return result


def _gathers(each: Candidate, tiling: Tiling) -> tuple[Gather, ...]:
    tiles = len(each.sharing.hosts)
    table = np.full((len(each.tileable.cuts), tiles), np.nan)
    for position, bounds in enumerate(each.bounds):
        if bounds is not None:
            table[position] = np.diff(bounds) * each.tileable.row_bytes[position]
    return gathers_from_table(each.tileable.cuts, tiling, table)
