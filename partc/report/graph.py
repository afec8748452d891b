"""The placed graph: every block in its host's colour and shape, cut tensors labelled.

A long graph is drawn as several strips, each narrow enough for a phone; a wide page sets them
side by side.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from markupsafe import Markup

from partc.report.facts import Cut, Facts
from partc.report.layout import Edge, Layout, Measures, layered
from partc.report.names import fitting, shortened
from partc.report.palette import HOST_STYLES
from partc.report.units import duration, size

_MEASURES = Measures()
_BOX_HEIGHT = 25
_ROW_GAP = 17
_PILL_HEIGHT = 21
_MARGIN = 16
_CHARACTER_WIDTH = 6.9
_ROWS_PER_STRIP = 24
_STRIPS_ABREAST = 3
_CORNERS = (3, 12)


@dataclass(frozen=True)
class _Vertex:
    """A box: an input, a block or an output, with the tensors it makes."""

    label: str
    tooltip: str
    host: str
    makes: tuple[str, ...]
    reads: tuple[str, ...]
    number: int | None = None


@dataclass(frozen=True)
class Strip:
    """A piece of the graph as an SVG element; ``first`` and ``last`` are block numbers."""

    svg: Markup
    first: int
    last: int


def graph_strips(facts: Facts) -> list[Strip]:
    """The graph from top to bottom, in strips."""
    drawing = _Drawing(facts)
    rows = len(drawing.layout.rows)
    pieces = math.ceil(rows / _ROWS_PER_STRIP)
    if pieces > 1:
        pieces = math.ceil(pieces / _STRIPS_ABREAST) * _STRIPS_ABREAST
    pieces = max(1, pieces)
    bounds = [round(piece * rows / pieces) for piece in range(pieces + 1)]
    return [drawing.strip(low, high) for low, high in pairwise(bounds)]


class _Drawing:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.vertices = tuple(_vertices(facts))
        self.host_index = {host: i for i, host in enumerate(facts.hosts)}

    @cached_property
    def readers(self) -> dict[Edge, list[str]]:
        """Edge -> the tensors it carries."""
        maker = {t: i for i, vertex in enumerate(self.vertices) for t in vertex.makes}
        carried: dict[Edge, list[str]] = defaultdict(list)
        for reader, vertex in enumerate(self.vertices):
            for tensor in vertex.reads:
                if tensor in maker:
                    carried[maker[tensor], reader].append(tensor)
        if not self.facts.reads:
            for i in range(len(self.vertices) - 1):
                carried.setdefault((i, i + 1), [])
        return carried

    @cached_property
    def layout(self) -> Layout:
        return layered(len(self.vertices), list(self.readers), _MEASURES)

    @cached_property
    def cuts_below(self) -> dict[int, list[tuple[int, Cut]]]:
        """Row -> the cuts whose tensor is made there, with the vertex that makes it."""
        maker = {t: i for i, vertex in enumerate(self.vertices) for t in vertex.makes}
        found: dict[int, list[tuple[int, Cut]]] = defaultdict(list)
        for cut in self.facts.cuts:
            vertex = maker.get(cut.transfer.tensor)
            if vertex is not None:
                found[self.layout.row_of[vertex]].append((vertex, cut))
        return found

    def strip(self, low: int, high: int) -> Strip:
        tops, y = [], float(_MARGIN)
        for row in range(low, high):
            tops.append(y)
            y += _BOX_HEIGHT + _ROW_GAP + _PILL_HEIGHT * len(self.cuts_below.get(row, ()))
        height = y - _ROW_GAP + _MARGIN
        members = [v for row in range(low, high) for v in self._boxes(row)]
        numbers = [n for v in members if (n := self.vertices[v].number) is not None]
        first, last = min(numbers, default=0), max(numbers, default=0)
        parts = [
            Markup(
                '<svg class="strip" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">'
            ).format(_MEASURES.width, height, f"Blocks {first} to {last} of the placed graph"),
            *self._edges(low, high, tops, height),
            *(self._box(v, tops[self.layout.row_of[v] - low]) for v in members),
        ]
        for row in range(low, high):
            parts += self._pills(row, tops[row - low] + _BOX_HEIGHT)
        parts.append(Markup("</svg>"))
        return Strip(Markup("").join(parts), first, last)

    def _boxes(self, row: int) -> list[int]:
        return [item.vertex for item in self.layout.rows[row] if not item.is_lane]

    def _box(self, index: int, top: float) -> Markup:
        vertex = self.vertices[index]
        spot = self.layout.spot(self.layout.row_of[index], index)
        host = self.host_index.get(vertex.host, 0) % HOST_STYLES
        prefix = "" if vertex.number is None else f"{vertex.number} "
        room = int((spot.width - 12) / _CHARACTER_WIDTH) - len(prefix)
        label = prefix + fitting(vertex.label, room) if room > 2 else prefix.strip()
        return Markup(
            '<g class="box h{}{}"><title>{}</title>'
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="{}"/>'
            '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
        ).format(
            host,
            "" if vertex.number is not None else " terminal",
            vertex.tooltip,
            spot.center - spot.width / 2 + 1,
            top,
            spot.width - 2,
            _BOX_HEIGHT,
            _CORNERS[host % len(_CORNERS)],
            spot.center,
            top + _BOX_HEIGHT / 2 + 4,
            label,
        )

    def _pills(self, row: int, bottom: float) -> Iterator[Markup]:
        here = sorted(
            self.cuts_below.get(row, ()), key=lambda pair: self.layout.spot(row, pair[0]).center
        )
        for place, (vertex, cut) in enumerate(here):
            moved = cut.transfer
            text = f"cut {cut.number}: {size(moved.bytes)} to {shortened(moved.receiver, 14)}"
            width = len(text) * _CHARACTER_WIDTH + 14
            center = self.layout.spot(row, vertex).center
            center = min(max(center, width / 2 + 1), _MEASURES.width - width / 2 - 1)
            top = bottom + 8 + place * _PILL_HEIGHT
            yield Markup(
                '<g class="pill"><title>{}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                'height="{}" rx="9"/><text x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                f"{shortened(moved.tensor, 200)}: {size(moved.bytes)} from {moved.sender} to "
                f"{moved.receiver} in {duration(moved.predicted_s)}",
                center - width / 2,
                top,
                width,
                _PILL_HEIGHT - 3,
                center,
                top + 13,
                text,
            )

    def _edges(self, low: int, high: int, tops: list[float], height: float) -> Iterator[Markup]:
        paths: dict[bool, dict[str, None]] = {False: {}, True: {}}
        for (u, v), tensors in self.readers.items():
            if self.layout.row_of[u] >= self.layout.row_of[v]:
                continue
            host = self.vertices[v].host
            is_cut = any((tensor, host) in self.facts.cut_of for tensor in tensors)
            for piece in self._pieces(u, v, low, high, tops, height):
                paths[is_cut][piece] = None
        for is_cut, pieces in paths.items():
            if pieces:
                assumed = "" if self.facts.reads else " assumed"
                kind = "edge cut" if is_cut else f"edge{assumed}"
                yield Markup('<path class="{}" d="{}"/>').format(kind, "".join(pieces))

    def _pieces(
        self, u: int, v: int, low: int, high: int, tops: list[float], height: float
    ) -> Iterator[str]:
        start, end = self.layout.row_of[u], self.layout.row_of[v]
        for row in range(max(start, low - 1), min(end, high)):
            x1 = self.layout.spot(row, u).center
            target = v if row + 1 == end else u
            x2 = self.layout.spot(row + 1, target).center
            if row < low:
                yield f"M{x2:.0f} 0V{tops[0]:.0f}"
            else:
                y1 = tops[row - low] + _BOX_HEIGHT
                y2 = tops[row + 1 - low] if row + 1 < high else height
                yield _curve(x1, y1, x2, y2)
            if low <= row + 1 < high and row + 1 < end:
                y = tops[row + 1 - low]
                yield f"M{x2:.0f} {y:.0f}v{_BOX_HEIGHT}"


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    if abs(x1 - x2) < 0.5:
        return f"M{x1:.0f} {y1:.0f}V{y2:.0f}"
    middle = (y1 + y2) / 2
    return f"M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"


def _vertices(facts: Facts) -> Iterator[_Vertex]:
    manifest = facts.manifest
    topology = manifest.topology
    for spec in manifest.model.inputs:
        home = topology.input_home(spec.name)
        yield _Vertex(f"input: {spec.name}", f"input on {home}", home, (spec.name,), ())
    for number, block in enumerate(manifest.blocks, start=1):
        reads = tuple(facts.reads.get(block.name, ()))
        cost = block.costs.get(block.host)
        took = f", {duration(cost.median_s)} ({cost.provenance})" if cost else ""
        made = ", ".join(
            f"{shortened(t, 60)} {size(b)}" for t, b in list(block.outputs.items())[:4]
        )
        tooltip = f"{number} {shortened(block.name, 160)} on {block.host}{took}; makes {made}"
        yield _Vertex(block.name, tooltip, block.host, tuple(block.outputs), reads, number)
    for spec in manifest.model.outputs:
        home = topology.output_home(spec.name)
        yield _Vertex(f"output: {spec.name}", f"output on {home}", home, (), (spec.name,))
