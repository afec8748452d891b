"""Who computes which rows of which layer: layers downwards, rows from left to right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from partc.bundle.tiling import (
    SentRowsEntry,
    TiledBlockEntry,
    TileGroupEntry,
    TilingEntry,
    overlaps,
    rows_twice,
)
from partc.report.charts import WIDE
from partc.report.facts import Facts, joined
from partc.report.names import fitting, shortened
from partc.report.palette import HOST_STYLES
from partc.report.units import count, percent, size

_CHARACTER_WIDTH, _BOLD_WIDTH = 6.4, 7.1
_MANY_LAYERS = 40
_HEAD, _PILL, _LANE = 24, 18, 28
_CORNERS = (2, 8)
_SPOKEN = 40
_HATCH = 5
_TALL = 14


@dataclass(frozen=True)
class LayerRows:
    """One line of the table.

    Attributes:
        group: its number, from 1.
        computed: host -> rows from the first up to, without, the second.
        twice: rows computed beyond once.
    """

    group: int
    name: str
    unit: str
    rows: int
    computed: dict[str, tuple[int, int]]
    twice: int


@dataclass(frozen=True)
class SentRows:
    """One line of the table of what is sent; ``why`` is where in the picture it stands."""

    why: str
    sent: SentRowsEntry


def tiling_sentence(facts: Facts) -> str | None:
    """Who shares what, what is done twice and sent for it; None without tiles."""
    tiling = facts.manifest.tiling
    if tiling is None:
        return None
    layers = sum(len(group.blocks) for group in tiling.groups)
    where = joined(tile_hosts(facts, tiling))
    groups = count(len(tiling.groups), "group")
    does = "computes" if len(tile_hosts(facts, tiling)) == 1 else "compute"
    text = f"{where} {does} {count(layers, 'block')} side by side, in {groups} of tiles: "
    if tiling.done_twice > 0:
        text += f"{percent(tiling.done_twice)} of that work is done twice"
    else:
        text += "none of that work is done twice"
    if tiling.halo_bytes:
        is_cut = all(group.kind != "branches" for group in tiling.groups)
        what = "halos" if is_cut else "halos and branches"
        return f"{text}, and tiles send each other {size(tiling.halo_bytes)} of {what} per request."
    return f"{text}, and no halos are sent."


def tile_hosts(facts: Facts, tiling: TilingEntry) -> list[str]:
    """Every host that computes tiles, in the order of colours."""
    used = {host for group in tiling.groups for host in group.hosts}
    return [host for host in facts.hosts if host in used]


def layer_rows(tiling: TilingEntry) -> list[LayerRows]:
    """Every tiled block, in order."""
    return [
        LayerRows(
            group=number,
            name=block.name,
            unit=group.unit,
            rows=block.rows,
            computed=dict(zip(group.hosts, block.computed, strict=True)),
            twice=rows_twice(block.computed),
        )
        for number, group in enumerate(tiling.groups, start=1)
        for block in group.blocks
    ]


def sent_rows(tiling: TilingEntry) -> list[SentRows]:
    """Everything that is sent for tiles, in the order of the picture."""
    found: list[SentRows] = []
    tiled = {group.exit for group in tiling.groups}
    for number, group in enumerate(tiling.groups, start=1):
        why = f"halo of group {number}" if group.entry in tiled else f"input of group {number}"
        found += [SentRows(why, each) for each in group.receives]
        found += [SentRows(f"result of group {number}", each) for each in group.gives]
    return found


def tile_rows(facts: Facts, width: int, css_class: str) -> Markup:
    """The picture as an SVG element."""
    tiling = facts.manifest.tiling
    assert tiling is not None
    return _Drawing(facts, tiling, width).svg(css_class)


@dataclass(frozen=True)
class _Band:
    """Consecutive blocks of a group of which every host computes the same rows."""

    rows: int
    computed: tuple[tuple[int, int], ...]
    blocks: list[TiledBlockEntry] = field(default_factory=list)


def _bands(group: TileGroupEntry) -> list[_Band]:
    bands: list[_Band] = []
    for block in group.blocks:
        key = block.rows, tuple(block.computed)
        if not bands or (bands[-1].rows, bands[-1].computed) != key:
            bands.append(_Band(*key))
        bands[-1].blocks.append(block)
    return bands


class _Drawing:
    def __init__(self, facts: Facts, tiling: TilingEntry, width: int) -> None:
        self.width = width
        self.tiling = tiling
        self.slot = {host: i % HOST_STYLES for i, host in enumerate(facts.hosts)}
        self.bands = [_bands(group) for group in tiling.groups]
        is_wide = width == WIDE
        self.left = 200.0 if is_wide else 96.0
        self.right = width - (64.0 if is_wide else 56.0)
        is_long = sum(map(len, self.bands)) > _MANY_LAYERS
        self.step, self.bar = (18, 14) if is_long else (25, 19)
        self.y = 4.0

    def svg(self, css_class: str) -> Markup:
        parts = [part for piece in self._pieces() for part in piece]
        head = Markup(
            '<svg class="chart rows {}" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">'
        ).format(css_class, self.width, self.y + 4, self._spoken())
        return Markup("").join([head, *parts, Markup("</svg>")])

    def _pieces(self) -> Iterator[Iterator[Markup]]:
        for number, (group, bands) in enumerate(
            zip(self.tiling.groups, self.bands, strict=True), start=1
        ):
            yield self._header(number, group)
            yield self._exchanges(group.receives)
            for band in bands:
                yield self._band(group, band)
            yield self._exchanges(group.gives)
            self.y += 6

    def _header(self, number: int, group: TileGroupEntry) -> Iterator[Markup]:
        room = int(self.width / _CHARACTER_WIDTH) - 24
        names = f"{shortened(group.entry, room // 2)} → {shortened(group.exit, room // 2)}"
        text = f"Group {number}: {names}, in {group.unit}"
        yield Markup('<text class="head" x="0" y="{:.0f}">{}</text>').format(self.y + 14, text)
        self.y += _HEAD

    def _band(self, group: TileGroupEntry, band: _Band) -> Iterator[Markup]:
        top, middle = self.y, self.y + self.bar / 2 + 4
        yield Markup("<g><title>{}</title>").format(_tooltip(group, band))
        yield Markup('<text class="label" x="{:.0f}" y="{:.1f}">{}</text>').format(
            self.left - 8, middle, _label(band, int((self.left - 10) / _CHARACTER_WIDTH))
        )
        yield Markup('<path class="whole" d="M{:.1f} {:.1f}H{:.1f}"/>').format(
            self.left, top + self.bar / 2, self.right
        )
        for host, (begin, end) in zip(group.hosts, band.computed, strict=True):
            if begin < end:
                yield self._bar(host, self._x(begin, band.rows), self._x(end, band.rows), top)
        doubled = overlaps(band.computed)
        for begin, end in doubled:
            yield self._twice(self._x(begin, band.rows), self._x(end, band.rows), top)
        for host, (begin, end) in zip(group.hosts, band.computed, strict=True):
            yield from self._range(host, begin, end, band.rows, doubled, middle)
        twice = rows_twice(band.computed)
        if twice:
            yield Markup('<text class="more" x="{:.0f}" y="{:.1f}">+{}</text>').format(
                self.right + 6, middle, percent(twice / band.rows)
            )
        yield Markup("</g>")
        self.y += self.step

    def _bar(self, host: str, start: float, end: float, top: float) -> Markup:
        slot = self.slot[host]
        return Markup(
            '<g class="h{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="{}"/></g>'
        ).format(slot, start, top, max(end - start, 1.0), self.bar, _CORNERS[slot % len(_CORNERS)])

    def _twice(self, start: float, end: float, top: float) -> Markup:
        end = max(end, start + 2)
        bottom = top + self.bar
        lines = []
        x = start + _HATCH
        while x < end + self.bar:  # from the lower left to the upper right, cut at both sides
            low, high = max(start, x - self.bar), min(end, x)
            if low < high:
                lines.append(f"M{low:.1f} {top + x - low:.1f}L{high:.1f} {top + x - high:.1f}")
            x += _HATCH
        return Markup(
            '<g class="twice"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            '<path d="{}"/></g>'
        ).format(start, top, end - start, bottom - top, "".join(lines))

    def _range(
        self,
        host: str,
        begin: int,
        end: int,
        rows: int,
        doubled: Sequence[tuple[int, int]],
        middle: float,
    ) -> Iterator[Markup]:
        """The rows in figures, where a host's own part has room for them."""
        low, high = begin, end
        for first, last in doubled:
            if first <= low < last:
                low = last
            if first < high <= last:
                high = first
        room = (self._x(high, rows) - self._x(low, rows)) / _CHARACTER_WIDTH - 1
        numbers = f"{begin:,}–{end:,}"
        text = f"{shortened(host, 20)} {numbers}" if rows > 1 else shortened(host, 20)
        text = text if len(text) <= room else numbers
        if len(text) <= room:
            x = (self._x(low, rows) + self._x(high, rows)) / 2
            yield Markup('<text class="range" x="{:.1f}" y="{:.1f}">{}</text>').format(
                x, middle, text
            )

    def _exchanges(self, sent: Sequence[SentRowsEntry]) -> Iterator[Markup]:
        """Each message over the rows that it brings; those that would collide, below each other."""
        taken: list[float] = []
        ordered = sorted(sent, key=lambda each: (each.begin / each.rows, each.end / each.rows))
        for place, each in enumerate(ordered):
            start, end = self._x(each.begin, each.rows), self._x(each.end, each.rows)
            end = max(end, start + 2)
            text = (
                f"{shortened(each.sender, 12)} → {shortened(each.receiver, 12)} {size(each.bytes)}"
            )
            width = len(text) * _BOLD_WIDTH + 12
            is_first = place + 1 < len(ordered)
            spots = [start + 1, (start + end - width) / 2]
            if is_first:
                spots.insert(0, end - width - 1)
            lane, left = self._spot(taken, spots, start, width, end)
            taken[lane : lane + 1] = [max(end, left + width)]
            centre = left + width / 2
            top = self.y + lane * _LANE
            yield Markup(
                '<g class="pill"><title>{}</title><path class="moved" d="M{:.1f} {:.1f}H{:.1f}"/>'
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="9"/>'
                '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                f"{each.sender} sends {each.receiver} {each.begin:,} to {each.end:,} of the "
                f"{each.rows:,} of {shortened(each.of, 160)}: {size(each.bytes)}",
                start + 0.7,
                top + 2,
                end - 0.7,
                centre - width / 2,
                top + 5,
                width,
                _PILL,
                centre,
                top + 18,
                text,
            )
        self.y += len(taken) * _LANE + (4 if taken else 0)

    def _spot(
        self, taken: Sequence[float], spots: Sequence[float], start: float, width: float, end: float
    ) -> tuple[int, float]:
        """The first line with room for a message, and where its text begins.

        Of two messages over neighbouring rows, as halos are, the text of the first ends where its
        rows do and that of the second begins where its do, so that both share a line.
        """
        lefts = [min(max(left, 1.0), self.width - width - 1) for left in spots]
        if end - start >= width:
            lefts = lefts[-1:]
        for lane, reached in enumerate(taken):
            for left in lefts:
                if reached <= min(start, left) + 0.5:
                    return lane, left
        return len(taken), lefts[0]

    def _x(self, row: int, rows: int) -> float:
        return self.left + (self.right - self.left) * row / rows

    def _spoken(self) -> str:
        said = []
        for group, bands in zip(self.tiling.groups, self.bands, strict=True):
            said += [_tooltip(group, band) for band in bands]
        more = f"; and {len(said) - _SPOKEN} more" if len(said) > _SPOKEN else ""
        return f"Who computes which rows: {'; '.join(said[:_SPOKEN])}{more}"


def is_tall(tiling: TilingEntry) -> bool:
    """Whether the picture is so long that the page scrolls it."""
    bands = sum(len(_bands(group)) for group in tiling.groups)
    exchanges = sum(math.ceil((len(g.receives) + len(g.gives)) / 2) for g in tiling.groups)
    return bands + exchanges > 2 * _TALL


def _label(band: _Band, limit: int) -> str:
    first, last = band.blocks[0].name, band.blocks[-1].name
    if len(band.blocks) == 1:
        return fitting(first, limit)
    tail = f" ({len(band.blocks)})"
    each = (limit - len(tail) - 3) // 2
    if each < 4:
        return fitting(first, limit - len(tail)) + tail
    return f"{fitting(first, each)} – {fitting(last, each)}{tail}"


def _tooltip(group: TileGroupEntry, band: _Band) -> str:
    name = shortened(band.blocks[0].name, 80)
    if len(band.blocks) > 1:
        name += f" to {shortened(band.blocks[-1].name, 80)}"
    parts = [
        f"{host} {begin:,} to {end:,}"
        for host, (begin, end) in zip(group.hosts, band.computed, strict=True)
    ]
    if group.kind == "branches":
        owners = (host for host, (_, end) in zip(group.hosts, band.computed, strict=True) if end)
        return f"{name}: {joined(list(owners))}"
    twice = rows_twice(band.computed)
    more = f", {twice:,} twice" if twice else ""
    return f"{name}, {band.rows:,} {group.unit}: {', '.join(parts)}{more}"
