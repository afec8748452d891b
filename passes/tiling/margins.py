"""Which rows a tile holds of each tensor when rows that only some ops need are carried along.

Where a tensor is read by two ops that need different rows of it (a residual join needs fewer than
the convolution beside it), the op that needs fewer would have to cut. Instead all tensors that are
joined row by row hold the same rows, and convolutions pad where rows are missing. So the outermost
rows of a tensor may be wrong; those that the exit needs are right, since everything that *they*
need is held and right.
"""

from __future__ import annotations

from dataclasses import dataclass

from partc.passes.tiling.bound import BoundGroup, BoundOp, Demand
from partc.passes.tiling.geometry import Sliding

Span = tuple[int, int]

# Carried rows that would make a tile's ops compute more than this beside what is needed are cut:
# past it a Slice is cheaper (benchmarks/tile_margins.py).
MOST_EXTRA = 0.05


@dataclass(frozen=True)
class Held:
    """Rows of each tensor that a tile holds, the entry's and the exit's included.

    Attributes:
        extra: rows computed for nothing, as a share of those needed, over all ops.
        saved_cuts: how many Slices fewer there are than with what is needed alone.
    """

    tensors: dict[str, Span]
    extra: float
    saved_cuts: int

    @property
    def pays(self) -> bool:
        """Whether it is likely faster: a Slice costs a few passes over its tensor, and keeps the
        ops around it from being fused."""
        return self.saved_cuts > 0 and self.extra <= MOST_EXTRA


def held_rows(group: BoundGroup, demand: Demand, own: Span | None = None) -> Held | None:
    """Widen what is needed until no op has to cut; None where an op cannot pad as it would have to.

    Args:
        demand: of one range of the exit.
        own: rows of the entry that the host has made itself, which need no cutting.
    """
    needed = {name: _span(demand.ops[op.op.name]) for op in group.ops for name in op.outputs}
    needed[group.entry] = _span(demand.entry)
    wanted = needed[group.exit]
    held = dict(needed)
    before: dict[str, Span] = {}
    while before != held:  # ends: rows only grow, and are bounded
        before = dict(held)
        for op in group.ops:
            _widen(group, op, held)
    if any(not _can_pad(op, held) for op in group.ops):
        return None
    rows = sum(_length(needed[op.outputs[0]]) for op in group.ops)
    more = sum(_length(held[op.outputs[0]]) for op in group.ops) - rows
    exact = _cuts(group, needed, own, is_kept=False)
    kept = _cuts(group, held, own, is_kept=True) + (held[group.exit] != wanted)
    return Held(held, more / rows, exact - kept)


def _cuts(group: BoundGroup, held: dict[str, Span], own: Span | None, *, is_kept: bool) -> int:
    """How many Slices a tile has if it holds these rows and its ops read what they need of them."""
    found: set[tuple[str, Span]] = set()
    for op in group.ops:
        for index, read in op.geometry.reads.items():
            name = op.node.input[index]
            if op.site.is_constant(name) or (is_kept and reads_all(op)):
                continue
            rows = read.rows(*held[op.outputs[0]])
            is_own = name == group.entry and rows == own
            if rows != held[name] and not is_own:
                found.add((name, rows))
    return len(found)


def reads_all(op: BoundOp) -> bool:
    """Whether an op takes whatever rows its inputs hold."""
    return op.geometry.sliding is not None or op.geometry.keeps_rows


def _widen(group: BoundGroup, op: BoundOp, held: dict[str, Span]) -> None:
    inputs = {
        index: op.node.input[index]
        for index in op.geometry.reads
        if not op.site.is_constant(op.node.input[index])
    }
    out = _hull([held[name] for name in op.outputs])
    if op.geometry.keeps_rows:
        out = _hull([out, *(held[name] for name in inputs.values())])
        for name in inputs.values():
            held[name] = out
    elif op.geometry.sliding is not None:
        name = inputs[0]
        window, size = op.geometry.sliding, op.geometry.reads[0].size
        out = _covering(window, held[name], out, op.geometry.rows)
        if name != group.entry:  # rows of the entry would be sent
            first = min(out[0] * window.stride, size - 1)
            last = min(_end(window, out[1]) - window.after, size)
            held[name] = _hull([held[name], (first, max(last, first + 1))])
    else:
        for index, name in inputs.items():
            held[name] = _hull([held[name], op.geometry.reads[index].rows(*out)])
    for name in op.outputs:
        held[name] = out


def _covering(window: Sliding, rows: Span, out: Span, size: int) -> Span:
    """The output rows whose windows, with padding, reach over all of ``rows``."""
    begin = min(out[0], (rows[0] + window.before) // window.stride)
    end = out[1]
    while _end(window, end) + window.stride <= rows[1] and end < size:
        end += 1
    return begin, end


def _can_pad(op: BoundOp, held: dict[str, Span]) -> bool:
    window = op.geometry.sliding
    if window is None or op.geometry.keeps_rows or window.most is None:
        return True
    low, high = held[op.node.input[0]]
    begin, end = held[op.outputs[0]]
    front = low - (begin * window.stride - window.before)
    return front <= window.most and _end(window, end) - high <= window.most


def _end(window: Sliding, end: int) -> int:
    """One past the last input row of the windows of output rows up to ``end``."""
    return (end - 1) * window.stride - window.before + window.extent


def _hull(spans: list[Span]) -> Span:
    return min(span[0] for span in spans), max(span[1] for span in spans)


def _span(rows: tuple[object, object]) -> Span:
    return int(rows[0]), int(rows[1])  # type: ignore[call-overload]


def _length(span: Span) -> int:
    return span[1] - span[0]
