"""What tiles compute and exchange, for many candidates at once.

For a range with cuts t_0 to t_m and one exit t_j, candidates are an array of bounds, one row each.
Going back stage by stage gives the work of every group that ends in t_j, whatever its entry t_i: so
one call serves j groups for each candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from partc.passes.tiling.geometry import Rows
from partc.passes.tiling.ranges import TileableRange

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Tables:
    """One stage: for each row of its exit, what each op computes and what the entry must hold.

    Attributes:
        first, last: (ops, rows of the exit); ops stand block by block.
        sizes: (ops,) rows of the whole op.
        starts: (blocks,) where each block's ops begin.
    """

    first: Rows
    last: Rows
    sizes: Rows
    starts: Rows
    entry_first: Rows
    entry_last: Rows


@dataclass(frozen=True)
class GroupWork:
    """Tiles of S candidates over K hosts each, for every group that ends in ``cuts[last]``.

    Attributes:
        blocks: of stages 0 to last - 1, in order.
        stage_of: (B,) the stage of each block.
        share: (B, S, K) rows that a host computes of a block, as a share of all its rows; of the
            op of the block that is computed furthest. The sum over K is 1 plus what is done twice.
        begin, end: (last + 1, S, K) rows of each cut tensor that a host needs; at ``last`` the
            rows that it makes.
    """

    last: int
    blocks: tuple[str, ...]
    stage_of: Rows
    share: Floats
    begin: Rows
    end: Rows

    def seconds(self, costs_s: Mapping[str, Sequence[float]]) -> Floats:
        """(last, S, K): what each host computes in the group from ``cuts[i]`` on, seconds.

        Args:
            costs_s: block -> seconds of the whole block on each of the K hosts.
        """
        costs = np.array([costs_s[block] for block in self.blocks], np.float64)
        return self._from_stage_on(self.share * costs[:, None, :])

    def rows_of_blocks(self, rows: Mapping[str, int]) -> Floats:
        """(B, S, K): rows of each block, given how many it has as a whole."""
        sizes = np.array([rows[block] for block in self.blocks], np.float64)
        return self.share * sizes[:, None, None]

    def done_twice(self, weights: Mapping[str, float]) -> Floats:
        """(last, S): what is computed more than once, as a share of the group's work.

        Args:
            weights: block -> its part of the work, in any unit: seconds, or operations.
        """
        own = np.array([weights[block] for block in self.blocks], np.float64)
        done = self._from_stage_on(self.share.sum(axis=2) * own[:, None])
        once = self._from_stage_on(np.broadcast_to(own[:, None], self.share.shape[:2]))
        ratio: Floats = np.ones_like(done)
        np.divide(done, once, out=ratio, where=once > 0)
        ratio -= 1.0
        return ratio

    def _from_stage_on(self, per_block: Floats) -> Floats:
        of_stage = np.zeros((self.last, *per_block.shape[1:]))
        np.add.at(of_stage, self.stage_of, per_block)
        result: Floats = np.cumsum(of_stage[::-1], axis=0)[::-1]
        return result


class RangeWork:
    """The tables of one range; made once, then asked with any number of candidates."""

    def __init__(self, tileable: TileableRange) -> None:
        self.range = tileable
        self._tables = [_tables(tileable, position) for position in range(len(tileable.stages))]

    def ending_in(self, last: int, bounds: npt.ArrayLike) -> GroupWork:
        """Work of all groups that end in ``cuts[last]``.

        Args:
            bounds: (S, K + 1) rising rows of ``cuts[last]``.
        """
        edges = np.atleast_2d(np.asarray(bounds, np.int64))
        begin, end = edges[:, :-1], edges[:, 1:]
        begins, ends, shares = [begin], [end], []
        for tables in reversed(self._tables[:last]):
            done = tables.last[:, end - 1] - tables.first[:, begin]
            share = done / tables.sizes[:, None, None]
            shares.append(np.maximum.reduceat(share, tables.starts, axis=0))
            begin, end = tables.entry_first[begin], tables.entry_last[end - 1]
            begins.append(begin)
            ends.append(end)
        blocks = [self.range.stage_blocks[i] for i in range(last)]
        return GroupWork(
            last=last,
            blocks=tuple(block for stage in blocks for block in stage),
            stage_of=np.repeat(np.arange(last), [len(stage) for stage in blocks]),
            share=np.concatenate(shares[::-1]) if shares else np.zeros((0, *begin.shape)),
            begin=np.stack(begins[::-1]),
            end=np.stack(ends[::-1]),
        )

    def exchange_bytes(self, cut: int, begin: Rows, end: Rows, owned: npt.ArrayLike) -> Floats:
        """(..., K, K): bytes that host k sends to host l so that l has rows ``begin`` to ``end``.

        Args:
            begin, end: (..., K) rows of ``cuts[cut]`` that each host needs.
            owned: (..., K + 1) bounds of the rows that each host made.
        """
        edges = np.asarray(owned, np.int64)
        low = np.maximum(edges[..., :-1, None], begin[..., None, :])
        high = np.minimum(edges[..., 1:, None], end[..., None, :])
        rows = np.maximum(high - low, 0)
        own = np.eye(rows.shape[-1], dtype=bool)
        result: Floats = np.where(own, 0, rows) * self.range.row_bytes[cut]
        return result

    def scatter_bytes(self, cut: int, begin: Rows, end: Rows) -> Floats:
        """(..., K): bytes that each host is sent where the cut tensor is whole elsewhere."""
        rows = np.asarray(end - begin, np.float64)
        return rows * self.range.row_bytes[cut]

    @cached_property
    def block_rows(self) -> Mapping[str, int]:
        """Block -> rows of its largest op."""
        found: dict[str, int] = {}
        for position, tables in enumerate(self._tables):
            largest = np.maximum.reduceat(tables.sizes, tables.starts)
            blocks = self.range.stage_blocks[position]
            found.update(zip(blocks, largest.tolist(), strict=True))
        return found


def _tables(tileable: TileableRange, position: int) -> _Tables:
    stage, names = tileable.stages[position], tileable.stage_blocks[position]
    own = np.arange(stage.rows[stage.exit])
    demand = stage.demand(own, own + 1)
    ordered = [op for block in names for op in tileable.block_ops[block]]
    starts = np.cumsum([0, *(len(tileable.block_ops[block]) for block in names)])[:-1]
    return _Tables(
        first=np.stack([demand.ops[op][0] for op in ordered]),
        last=np.stack([demand.ops[op][1] for op in ordered]),
        sizes=np.array([stage.op_by_name[op].geometry.rows for op in ordered]),
        starts=starts,
        entry_first=demand.entry[0],
        entry_last=demand.entry[1],
    )
