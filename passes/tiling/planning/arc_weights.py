"""What a host holds of weights for its tile: all of them for rows, a part for channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partc.optimizer import Problem
from partc.optimizer.horizontal import Arc, Tiling
from partc.optimizer.problem import Weight
from partc.passes.tiling.geometry import Rows
from partc.passes.tiling.ranges import TileableRange
from partc.passes.tiling.work import GroupWork

Held = dict[str, float]
"""Weight -> bytes of it."""


@dataclass(frozen=True)
class WeightSizes:
    """What blocks hold as a whole; made once for a placement problem whose ops are blocks."""

    of_block: Mapping[str, tuple[str, ...]]
    bytes_of: Mapping[str, float]

    @classmethod
    def of(cls, placement: Problem) -> WeightSizes | None:
        """None where no host's memory is limited."""
        if all(host.memory_bytes is None for host in placement.hosts):
            return None
        return cls(
            {op.name: tuple(op.weights) for op in placement.ops},
            {weight.name: weight.size_bytes for weight in placement.weights},
        )


def with_held_parts(
    arcs: Sequence[Arc],
    works: Mapping[int, GroupWork],
    tileable: TileableRange,
    tiling: Tiling,
    sizes: WeightSizes,
) -> tuple[tuple[Arc, ...], tuple[Weight, ...]]:
    """Arcs that say what their tiles hold where that is not all weights, and that as weights.

    What a tile holds counts as one weight of its own. A weight that other blocks of the same host
    use too is then counted twice, which may refuse a plan that would just fit, and never allows one
    that does not.

    Args:
        works: position of an exit among the cuts -> the work of groups that end there.
    """
    position = {tensor: number for number, tensor in enumerate(tileable.cuts)}
    held = {last: _held_from(tileable, work, sizes) for last, work in works.items()}
    whole = [_whole(tileable, stage, sizes) for stage in range(len(tileable.stages))]
    changed: list[Arc] = []
    made: list[Weight] = []
    for arc in arcs:
        first, last = position[arc.entry], position[arc.exit]
        all_bytes = sum(
            dict(pair for stage in whole[first:last] for pair in stage.items()).values()
        )
        parts = [sum(tile.values()) for tile in held[last][first]]
        if not any(part < all_bytes for part in parts):
            changed.append(arc)
            continue
        names = [f"{arc.tiling}|{arc.entry}|{arc.exit}@{host}" for host in tiling.hosts]
        made += [
            Weight(name=name, size_bytes=part) for name, part in zip(names, parts, strict=True)
        ]
        own = {host: (name,) for host, name in zip(tiling.hosts, names, strict=True)}
        changed.append(arc.model_copy(update={"weights": own}))
    return tuple(changed), tuple(made)


def _held_from(tileable: TileableRange, work: GroupWork, sizes: WeightSizes) -> list[list[Held]]:
    """[entry][host]: what is held from each cut on."""
    tiles = work.begin.shape[-1]
    found: list[list[Held]] = [[{} for _ in range(tiles)]]
    for stage in reversed(range(work.last)):
        rows = work.begin[stage + 1, 0], work.end[stage + 1, 0]
        own = _stage_parts(tileable, stage, rows, sizes)
        found.append([_merged(mine, later) for mine, later in zip(own, found[-1], strict=True)])
    return found[::-1]


def _stage_parts(
    tileable: TileableRange, stage: int, rows: tuple[Rows, Rows], sizes: WeightSizes
) -> list[Held]:
    """For each host, what it holds for its rows of the stage's exit."""
    group = tileable.stages[stage]
    demand = group.demand(*rows)
    whole = _whole(tileable, stage, sizes)
    found: list[Held] = []
    for tile in range(len(rows[0])):
        shares: dict[str, float] = {}
        for each in group.ops:
            for index, name in enumerate(each.node.input):
                if name not in whole:
                    continue
                share = 1.0
                if index in each.geometry.reads:
                    low, high = demand.reads[each.op.name, index]
                    share = float(high[tile] - low[tile]) / each.geometry.reads[index].size
                shares[name] = max(share, shares.get(name, 0.0))
        found.append({name: size * shares.get(name, 1.0) for name, size in whole.items()})
    return found


def _whole(tileable: TileableRange, stage: int, sizes: WeightSizes) -> Held:
    return {
        weight: sizes.bytes_of[weight]
        for block in tileable.stage_blocks[stage]
        for weight in sizes.of_block[block]
    }


def _merged(one: Held, other: Held) -> Held:
    return {**other, **{name: max(size, other.get(name, 0.0)) for name, size in one.items()}}
