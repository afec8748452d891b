"""A request's way over the hosts: a lane for each host, time from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from partc.bundle.manifest import CallEntry, SegmentEntry
from partc.report.facts import Cut, Facts
from partc.report.names import shortened
from partc.report.palette import HOST_STYLES
from partc.report.units import count, duration, size

_WIDTH = 344
_HEAD = 34
_BOX_HEIGHT = 40
_ARROW_HEIGHT = 46
_CORNERS = (3, 12)


@dataclass(frozen=True)
class _Run:
    segment: SegmentEntry


@dataclass(frozen=True)
class _Move:
    sender: str
    receiver: str
    cuts: tuple[Cut, ...]


def journey(facts: Facts) -> Markup:
    """The diagram as an SVG element."""
    events = list(_events(facts))
    lane = {host: place for place, host in enumerate(_lanes(facts, events))}
    width = _WIDTH / len(lane)
    center = {host: width * (place + 0.5) for host, place in lane.items()}
    height = _HEAD + sum(
        _BOX_HEIGHT + 10 if isinstance(event, _Run) else _ARROW_HEIGHT for event in events
    )
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
    for event in events:
        if isinstance(event, _Run):
            slot = facts.hosts.index(event.segment.host) % HOST_STYLES
            parts.append(_box(event.segment, center[event.segment.host], y, width, slot))
            y += _BOX_HEIGHT + 10
        else:
            parts.append(_arrow(event, center[event.sender], center[event.receiver], y))
            y += _ARROW_HEIGHT
    return Markup("").join([*parts, Markup("</svg>")])


def _events(facts: Facts) -> Iterator[_Run | _Move]:
    calls = {call.id: call for call in facts.manifest.plan.calls}

    def walk(call: CallEntry) -> Iterator[_Run | _Move]:
        if call.caller is not None:
            yield from _move(facts, call.caller, call.host, call.inputs)
        for step in call.steps:
            if step.run is not None:
                yield _Run(facts.manifest.segment(step.run))
            elif step.call is not None:
                yield from walk(calls[step.call])
            elif step.push is not None:
                yield from _move(facts, call.host, step.push.peer, step.push.tensors)
        if call.caller is not None:
            yield from _move(facts, call.host, call.caller, call.outputs)

    yield from walk(facts.manifest.plan.calls[0])


def _move(facts: Facts, sender: str, receiver: str, tensors: list[str]) -> Iterator[_Move]:
    cuts = [facts.cut_of[t, receiver] for t in tensors if (t, receiver) in facts.cut_of]
    moved = tuple(cut for cut in cuts if cut.transfer.sender == sender)
    if moved:
        yield _Move(sender, receiver, moved)


def _lanes(facts: Facts, events: list[_Run | _Move]) -> list[str]:
    busy = {facts.manifest.root}
    for event in events:
        busy |= {event.segment.host} if isinstance(event, _Run) else {event.sender, event.receiver}
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


def _arrow(move: _Move, start: float, end: float, y: float) -> Markup:
    line = y + 26
    tip = 7 if end > start else -7
    text = f"{size(sum(c.transfer.bytes for c in move.cuts))}, {duration(_seconds(move))}"
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


def _seconds(move: _Move) -> float:
    return sum(cut.transfer.predicted_s for cut in move.cuts)


def _spoken(events: list[_Run | _Move]) -> str:
    said = []
    for event in events[:40]:
        if isinstance(event, _Run):
            said.append(f"{event.segment.host} runs {event.segment.id}")
        else:
            total = size(sum(c.transfer.bytes for c in event.cuts))
            said.append(f"{event.sender} sends {total} to {event.receiver}")
    return "A request, step by step: " + ", then ".join(said)
