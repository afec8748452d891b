"""A layered drawing of a directed graph: which row and which place each vertex gets.

Rows hold few vertices, so that their names stay readable on a phone; what does not fit goes to the
next row. An edge over several rows runs in a lane of its own, shared by all readers of its source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Edge = tuple[int, int]

_SWEEPS = 3


@dataclass(frozen=True)
class Spot:
    """Where something is within its row.

    Attributes:
        center, width: CSS pixels from the left edge of the drawing.
    """

    center: float
    width: float


@dataclass(frozen=True)
class Item:
    """A vertex, or the lane that carries its edges past a row (``is_lane``)."""

    vertex: int
    is_lane: bool = False


@dataclass(frozen=True)
class Layout:
    """Rows from top to bottom, each from left to right, and where every item is."""

    rows: tuple[tuple[Item, ...], ...]
    row_of: tuple[int, ...]
    spots: tuple[dict[Item, Spot], ...]

    def spot(self, row: int, vertex: int) -> Spot:
        """Where ``vertex`` is in ``row``: its box, or its lane."""
        here = self.spots[row]
        box = here.get(Item(vertex))
        return box if box is not None else here[Item(vertex, is_lane=True)]


@dataclass(frozen=True)
class Measures:
    """Sizes in CSS pixels, and how many boxes fit into a row."""

    width: float = 344
    gap: float = 8
    lane: float = 12
    widest_box: float = 216
    boxes_per_row: int = 4


def layered(count: int, edges: Sequence[Edge], measures: Measures) -> Layout:
    """Lay out ``count`` vertices; an edge that points backwards does not shape the layout."""
    forward = sorted({(u, v) for u, v in edges if 0 <= u < v < count})
    row_of = _rows(count, forward, measures.boxes_per_row)
    height = max(row_of, default=-1) + 1
    rows: list[list[Item]] = [[] for _ in range(height)]
    for vertex, row in enumerate(row_of):
        rows[row].append(Item(vertex))
    above: dict[tuple[int, Item], list[Item]] = defaultdict(list)
    last_reader: dict[int, int] = {}
    for u, v in forward:
        last_reader[u] = max(last_reader.get(u, 0), row_of[v])
    for u, last in last_reader.items():
        previous = Item(u)
        for row in range(row_of[u] + 1, last):
            lane = Item(u, is_lane=True)
            rows[row].append(lane)
            above[row, lane] = [previous]
            previous = lane
    for u, v in forward:
        above[row_of[v], Item(v)].append(Item(u, is_lane=row_of[v] > row_of[u] + 1))
    ordered = _ordered(rows, above)
    spots = tuple(_spots(row, measures) for row in ordered)
    return Layout(tuple(tuple(row) for row in ordered), tuple(row_of), spots)


def _rows(count: int, forward: Sequence[Edge], limit: int) -> list[int]:
    sources: dict[int, list[int]] = defaultdict(list)
    for u, v in forward:
        sources[v].append(u)
    row_of: list[int] = []
    filled: dict[int, int] = defaultdict(int)
    for vertex in range(count):
        row = max((row_of[u] + 1 for u in sources[vertex]), default=0)
        while filled[row] >= limit:
            row += 1
        filled[row] += 1
        row_of.append(row)
    # Vertices that wait for nothing may leave a row empty above them only when count is 0.
    used = {row: place for place, row in enumerate(sorted(set(row_of)))}
    return [used[row] for row in row_of]


def _ordered(rows: list[list[Item]], above: dict[tuple[int, Item], list[Item]]) -> list[list[Item]]:
    below: dict[tuple[int, Item], list[Item]] = defaultdict(list)
    for (row, item), parents in above.items():
        for parent in parents:
            below[row - 1, parent].append(item)
    ordered = [list(row) for row in rows]
    for _ in range(_SWEEPS):
        for row in range(1, len(ordered)):
            _sort_by(ordered, row, row - 1, above)
        for row in range(len(ordered) - 2, -1, -1):
            _sort_by(ordered, row, row + 1, below)
    for row in range(1, len(ordered)):
        _sort_by(ordered, row, row - 1, above)
    return ordered


def _sort_by(
    ordered: list[list[Item]],
    row: int,
    other: int,
    neighbours: dict[tuple[int, Item], list[Item]],
) -> None:
    place = {item: (i + 0.5) / len(ordered[other]) for i, item in enumerate(ordered[other])}
    own = {item: (i + 0.5) / len(ordered[row]) for i, item in enumerate(ordered[row])}

    def center(item: Item) -> float:
        near = [place[n] for n in neighbours.get((row, item), ()) if n in place]
        return sum(near) / len(near) if near else own[item]

    ordered[row].sort(key=lambda item: (center(item), own[item]))


def _spots(row: Sequence[Item], measures: Measures) -> dict[Item, Spot]:
    lanes = sum(item.is_lane for item in row)
    boxes = len(row) - lanes
    # Even when many lanes run side by side, boxes keep two thirds of the width.
    room = measures.width / (3 if boxes else 1)
    lane = min(measures.lane, room / lanes) if lanes else 0.0
    free = measures.width - lanes * lane - max(boxes - 1, 0) * measures.gap
    box = min(measures.widest_box, free / boxes) if boxes else 0.0
    total = boxes * box + lanes * lane + max(boxes - 1, 0) * measures.gap
    x = (measures.width - total) / 2
    spots: dict[Item, Spot] = {}
    seen_box = False
    for item in row:
        if not item.is_lane and seen_box:
            x += measures.gap
        width = lane if item.is_lane else box
        seen_box = seen_box or not item.is_lane
        spots[item] = Spot(x + width / 2, width)
        x += width
    return spots
