"""A request's way over the hosts: a lane for each host, time from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from partc.bundle.manifest import SegmentEntry
from partc.report.facts import Facts
from partc.report.names import shortened
from partc.report.palette import HOST_STYLES
from partc.report.schedule import Move, Run, schedule
from partc.report.units import count, duration, size

_WIDTH = 344
_HEAD = 34
_BOX_HEIGHT = 40
_ARROW_HEIGHT = 46
_CORNERS = (3, 12)
_TALL = 1600


def journey(facts: Facts) -> Markup:
    """The diagram as an SVG element."""
    rows = list(_rows(schedule(facts)))
    events = [event for row in rows for event in row]
    lane = {host: place for place, host in enumerate(_lanes(facts, events))}
    width = _WIDTH / len(lane)
    center = {host: width * (place + 0.5) for host, place in lane.items()}
    height = _HEAD + sum(_height(row) for row in rows)
    parts = [
        Markup('<svg class="journey" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            _WIDTH, height + 6, _spoken(events)
        )
    ]
    for host, x in center.items():
        slot = facts.hosts.index(host) % HOST_STYLES
        parts.append(
            Markup(
                '<path class="lane" d="M{0:.0f} {1}V{2}"/>'
                '<text class="host h{3}" x="{0:.0f}" y="18">{4}</text>'
            ).format(x, _HEAD - 6, height + 4, slot, shortened(host, int(width / 8)))
        )
    y = float(_HEAD)
    for row in rows:
        for event in row:
            if isinstance(event, Run):
                slot = facts.hosts.index(event.segment.host) % HOST_STYLES
                parts.append(_box(event.segment, center[event.segment.host], y, width, slot))
            else:
                parts.append(_arrow(event, center[event.sender], center[event.receiver], y))
        y += _height(row)
    return Markup("").join([*parts, Markup("</svg>")])


def is_tall(facts: Facts) -> bool:
    """Whether the diagram is so long that the page scrolls it."""
    return sum(_height(row) for row in _rows(schedule(facts))) > _TALL


def _rows(events: Sequence[Run | Move]) -> Iterator[list[Run | Move]]:
    """What is drawn at one height: segments that hosts run at the same time, or one message."""
    row: list[Run | Move] = []
    for event in events:
        if row and not _fits(row, event):
            yield row
            row = []
        row.append(event)
    if row:
        yield row


def _fits(row: Sequence[Run | Move], event: Run | Move) -> bool:
    if isinstance(event, Move):
        return False
    for other in row:
        if isinstance(other, Move) or other.segment.host == event.segment.host:
            return False
        if not event.start_s < other.end_s:
            return False
    return True


def _height(row: Sequence[Run | Move]) -> int:
    return _BOX_HEIGHT + 10 if isinstance(row[0], Run) else _ARROW_HEIGHT


def _lanes(facts: Facts, events: Sequence[Run | Move]) -> list[str]:
    busy = {facts.manifest.root}
    for event in events:
        busy |= {event.segment.host} if isinstance(event, Run) else {event.sender, event.receiver}
    return [host for host in facts.hosts if host in busy]


def _box(segment: SegmentEntry, x: float, y: float, lane_width: float, slot: int) -> Markup:
    width = min(lane_width - 12, 168)
    return Markup(
        '<g class="box h{}"><rect x="{:.1f}" y="{:.0f}" width="{:.1f}" height="{}" rx="{}"/>'
        '<text x="{:.1f}" y="{:.0f}">{}</text><text class="strong" x="{:.1f}" y="{:.0f}">{}</text>'
        "</g>"
    ).format(
        slot,
        x - width / 2,
        y,
        width,
        _BOX_HEIGHT,
        _CORNERS[slot % len(_CORNERS)],
        x,
        y + 16,
        shortened(f"{segment.id}: {count(len(segment.ops), 'op')}", int(width / 6.3)),
        x,
        y + 32,
        duration(segment.predicted_s),
    )


def _arrow(move: Move, start: float, end: float, y: float) -> Markup:
    line = y + 26
    tip = 7 if end > start else -7
    text = f"{size(sum(c.transfer.bytes for c in move.cuts))}, {duration(move.seconds)}"
    which = " ".join(str(c.number) for c in move.cuts[:6]) + ("…" if len(move.cuts) > 6 else "")
    return Markup(
        '<g class="arrow"><title>{}</title><path d="M{:.0f} {:.0f}H{:.0f}m{} -4l{} 4l{} 4"/>'
        '<text x="{:.1f}" y="{:.0f}">{}</text><text class="which" x="{:.1f}" '
        'y="{:.0f}">cut {}</text></g>'
    ).format(
        "; ".join(shortened(c.transfer.tensor, 80) for c in move.cuts),
        start,
        line,
        end,
        -tip,
        tip,
        -tip,
        (start + end) / 2,
        line - 6,
        text,
        (start + end) / 2,
        line + 14,
        which,
    )


def _spoken(events: Sequence[Run | Move]) -> str:
    said = []
    for event in events[:40]:
        if isinstance(event, Run):
            said.append(f"{event.segment.host} runs {event.segment.id}")
        else:
            total = size(sum(c.transfer.bytes for c in event.cuts))
            said.append(f"{event.sender} sends {total} to {event.receiver}")
    return "A request, step by step: " + ", then ".join(said)
