"""Which block sequences of a program can be tiled, along which axis, and what closes the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from partc.errors import PassError
from partc.ir.program import Op, Program
from partc.ir.tensor import element_bits
from partc.ir.tiling import TileGroup
from partc.passes.tiling.bound import Binder, BoundGroup
from partc.passes.tiling.chains import Link, chains
from partc.passes.tiling.geometry import TilingError


@dataclass(frozen=True)
class Stage:
    """The blocks between two neighbouring cut tensors.

    Attributes:
        ways: axis of ``exit`` -> the stage bound along it.
        closed: axis of ``exit`` -> why it cannot be tiled along it.
    """

    entry: str
    exit: str
    blocks: tuple[str, ...]
    ways: Mapping[int, BoundGroup]
    closed: Mapping[int, str]


@dataclass(frozen=True)
class TileableRange:
    """Neighbouring stages that can be tiled along one axis: any part of it is a candidate group.

    Attributes:
        cuts: the tensors t_0 to t_m; everything between two of them passes through.
        axes: of each cut tensor, the axis along which it is cut (a Transpose moves it).
        stages: blocks between ``cuts[i]`` and ``cuts[i + 1]``, with their geometry.
        row_bytes: of each cut tensor, the bytes of one row.
        block_ops: block -> its ops.
    """

    cuts: tuple[str, ...]
    axes: tuple[int, ...]
    rows: tuple[int, ...]
    row_bytes: tuple[float, ...]
    stages: tuple[BoundGroup, ...]
    stage_blocks: tuple[tuple[str, ...], ...]
    block_ops: Mapping[str, tuple[str, ...]]

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """All blocks."""
        return tuple(block for stage in self.stage_blocks for block in stage)

    def group(
        self, first: int, last: int, hosts: Sequence[str], bounds: Sequence[int]
    ) -> TileGroup:
        """The blocks between ``cuts[first]`` and ``cuts[last]``, tiled over ``hosts``."""
        blocks = [b for stage in self.stage_blocks[first:last] for b in stage]
        return TileGroup(
            blocks=tuple(blocks),
            entry=self.cuts[first],
            exit=self.cuts[last],
            hosts=tuple(hosts),
            bounds=tuple(int(bound) for bound in bounds),
            axis=self.axes[last],
        )


@dataclass(frozen=True)
class Closed:
    """A stage that cannot be tiled along an axis (None: along any), and why, as a sentence."""

    entry: str
    exit: str
    blocks: tuple[str, ...]
    axis: int | None
    why: str


@dataclass(frozen=True)
class Tileability:
    """What `tileable_groups` found.

    Attributes:
        ranges: the longest first; ranges of one axis of the exit share no block.
        closed: what interrupts them.
    """

    ranges: tuple[TileableRange, ...]
    closed: tuple[Closed, ...]

    def along(self, axis: int) -> tuple[TileableRange, ...]:
        """Ranges whose exit is cut along ``axis``."""
        return tuple(each for each in self.ranges if each.axes[-1] == axis)

    def require(self, name: str) -> None:
        """Refuse a model of which nothing can be tiled.

        Raises:
            PassError: there is no range; says what closes the groups.
        """
        if not self.ranges:
            why = self.closed[0].why if self.closed else "no tensor separates its blocks"
            raise PassError(
                f"model {name!r} cannot be tiled: {why}; place it on single hosts instead"
            )


def tileable_groups(program: Program, axes: Iterable[int] | None = None) -> Tileability:
    """Find the cut tensors (`chains`), and between which of them tiles are possible.

    Args:
        axes: of the exits, those to try; by default rows, columns and channels of images, and
            both axes of sequences.

    Raises:
        PassError: the program has no blocks yet.
    """
    if program.blocks is None:
        raise PassError("tiles are made of blocks; run group-blocks before")
    binder = Binder(program)
    wanted = None if axes is None else tuple(axes)
    ranges: list[TileableRange] = []
    closed: dict[tuple[str, str, int | None], Closed] = {}
    for chain in chains(program):
        for link in chain:
            if link.why is not None:
                names = tuple(block.name for block in link.blocks)
                found = Closed(link.entry, link.exit, names, None, link.why)
                closed.setdefault((link.entry, link.exit, None), found)
        stages = [_stage(program, binder, wanted, link) for link in chain if link.why is None]
        ranges.extend(_ranges(program, stages))
        for stage in stages:
            for axis, why in stage.closed.items():
                found = Closed(stage.entry, stage.exit, stage.blocks, axis, why)
                closed.setdefault((stage.entry, stage.exit, axis), found)
    kept = tuple(_without_overlap(ranges))
    inside = {(axis, block) for r in kept for axis in (r.axes[-1], None) for block in r.blocks}
    interrupting = [
        each for each in closed.values() if not all((each.axis, b) in inside for b in each.blocks)
    ]
    if not kept and not interrupting:
        interrupting = list(_refusing_blocks(program, binder))
    return Tileability(kept, tuple(interrupting))


def _refusing_blocks(program: Program, binder: Binder) -> Iterator[Closed]:
    """Where no tensor separates anything: ops that no tile could have passed anyway."""
    for block in program.blocks or ():
        for op in (program.op_by_name[name] for name in block.ops):
            if why := binder.why_closed(op):
                yield Closed("", op.outputs[0], (block.name,), None, why)


def _stage(
    program: Program,
    binder: Binder,
    axes: tuple[int, ...] | None,
    link: Link,
) -> Stage:
    entry, exit, blocks = link.entry, link.exit, link.blocks
    names = {op for block in blocks for op in block.ops}
    ops: list[Op] = [op for op in program.placed_ops if op.name in names]
    ways: dict[int, BoundGroup] = {}
    closed: dict[int, str] = {}
    for axis in _axes_to_try(program, exit, axes):
        try:
            if not program.tensor(exit).can_cross or not program.tensor(entry).can_cross:
                raise TilingError(f"{entry!r} or {exit!r} is of a type that cannot be sent")
            ways[axis] = binder.bind(ops, entry, exit, axis)
        except TilingError as error:
            closed[axis] = error.message
    return Stage(entry, exit, tuple(block.name for block in blocks), ways, closed)


def _axes_to_try(program: Program, tensor: str, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    shape = program.tensor(tensor).planned_shape or ()
    rank = len(shape)
    if axes is None:
        axes = (*range(2, rank), 1) if rank >= 4 else tuple(range(1, rank))
    return tuple(axis for axis in axes if axis < rank and shape[axis] > 1)


def _ranges(program: Program, stages: Sequence[Stage]) -> Iterator[TileableRange]:
    """Maximal runs in which each stage is cut as the next one wants its entry."""
    covered: set[tuple[int, int]] = set()
    for last in reversed(range(len(stages))):
        for axis in stages[last].ways:
            if (last, axis) in covered:
                continue
            run: list[BoundGroup] = []
            position, wanted = last, axis
            while position >= 0 and wanted in stages[position].ways:
                covered.add((position, wanted))
                way = stages[position].ways[wanted]
                run.append(way)
                wanted = way.axes[way.entry]
                position -= 1
            run.reverse()
            yield _range(program, run, stages[position + 1 : last + 1])


def _range(program: Program, run: Sequence[BoundGroup], stages: Sequence[Stage]) -> TileableRange:
    cuts = (run[0].entry, *(way.exit for way in run))
    axes = (run[0].axes[run[0].entry], *(way.axes[way.exit] for way in run))
    rows = (run[0].rows[run[0].entry], *(way.rows[way.exit] for way in run))
    return TileableRange(
        cuts=cuts,
        axes=axes,
        rows=rows,
        row_bytes=tuple(_bytes(program, t) / r for t, r in zip(cuts, rows, strict=True)),
        stages=tuple(run),
        stage_blocks=tuple(stage.blocks for stage in stages),
        block_ops={
            block.name: block.ops
            for block in program.blocks or ()
            if any(block.name in stage.blocks for stage in stages)
        },
    )


def _bytes(program: Program, tensor: str) -> float:
    info = program.tensor(tensor)
    return math.prod(info.planned_shape or ()) * element_bits(info.dtype) / 8


def _without_overlap(ranges: Iterable[TileableRange]) -> Iterator[TileableRange]:
    taken: set[tuple[int, str]] = set()
    for each in sorted(ranges, key=lambda r: -len(r.blocks)):
        own = {(each.axes[-1], block) for block in each.blocks}
        if own.isdisjoint(taken):
            taken |= own
            yield each
