"""Whether a plan's calls, pushes and awaits come to an end, whatever the timing.

Everything that happens is an event with things that must be so before it, and things that are so
after it; nothing is ever undone. So the order in which events happen does not matter: either all
of them can, or the same ones never can. What hosts wait for is: a step, for its tensors and for
its call; a call, for its tensors and for the earlier call of the same caller to the same host; the
end of a call, for all its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Fact = tuple[str, ...]
"""``("at", host, tensor)``, ``("started", call)``, ``("ended", call)``, ``("pushed", exchange)``,
``("done", call, step)``."""


class AnyExchange(Protocol):
    """A message between hosts, of a program or of a manifest."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def peer(self) -> str:
        """The host at the other end."""

    @property
    def tensors(self) -> Sequence[str]:
        """What it brings."""


class AnyStep(Protocol):
    """A step, of a program or of a manifest."""

    @property
    def run(self) -> str | None:
        """A segment."""

    @property
    def call(self) -> str | None:
        """A call."""

    @property
    def push(self) -> AnyExchange | None:
        """What is sent."""

    @property
    def awaits(self) -> AnyExchange | None:
        """What is awaited."""


class AnyCall(Protocol):
    """A call, of a program or of a manifest."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def host(self) -> str:
        """Who carries it out."""

    @property
    def caller(self) -> str | None:
        """Who makes it."""

    @property
    def inputs(self) -> Sequence[str]:
        """What is sent."""

    @property
    def outputs(self) -> Sequence[str]:
        """What comes back."""

    @property
    def steps(self) -> Sequence[AnyStep]:
        """What it does."""


class AnySegment(Protocol):
    """A segment, of a program or of a manifest."""

    @property
    def inputs(self) -> Sequence[str]:
        """What it reads."""

    @property
    def outputs(self) -> Sequence[str]:
        """What it makes."""


@dataclass(frozen=True)
class _Event:
    what: str
    needs: frozenset[Fact]
    gives: tuple[Fact, ...]


def why_stuck(calls: Sequence[AnyCall], segments: Mapping[str, AnySegment]) -> str | None:
    """None when every call ends, otherwise a clause that says what waits for what.

    Args:
        calls: the first is the request itself; those that steps name are among them.
        segments: by id.
    """
    by_id = {call.id: call for call in calls}
    request = calls[0]
    events = [event for call in calls for event in _events(call, by_id, segments)]
    waiting: dict[Fact, list[int]] = {}
    missing = [len(event.needs) for event in events]
    for index, event in enumerate(events):
        for fact in event.needs:
            waiting.setdefault(fact, []).append(index)
    true: set[Fact] = set()
    new: list[Fact] = [("started", request.id)]
    new += [("at", request.host, tensor) for tensor in request.inputs]
    while new:
        fact = new.pop()
        if fact in true:
            continue
        true.add(fact)
        for index in waiting.get(fact, ()):
            missing[index] -= 1
            if not missing[index]:
                new.extend(events[index].gives)
    left = [event for event, count in zip(events, missing, strict=True) if count]
    return _explained(left, true) if left else None


def _events(
    call: AnyCall, calls: Mapping[str, AnyCall], segments: Mapping[str, AnySegment]
) -> Iterator[_Event]:
    begun: Fact = ("started", call.id)
    ends: set[Fact] = {("at", call.host, tensor) for tensor in call.outputs}
    called: dict[str, str] = {}

    def at(host: str, tensors: Sequence[str]) -> tuple[Fact, ...]:
        return tuple(("at", host, tensor) for tensor in tensors)

    for number, step in enumerate(call.steps):
        done: Fact = ("done", call.id, str(number))
        if step.call is not None:
            made = calls[step.call]
            needs = {begun, *at(call.host, made.inputs)}
            if made.host in called:
                needs.add(("ended", called[made.host]))
            called[made.host] = made.id
            given = (("started", made.id), *at(made.host, made.inputs))
            yield _Event(f"call {made.id!r}", frozenset(needs), given)
            ends.add(("ended", made.id))
            continue
        ends.add(done)
        if step.run is not None:
            segment = segments[step.run]
            yield _Event(
                f"segment {step.run!r}",
                frozenset((begun, *at(call.host, segment.inputs))),
                (done, *at(call.host, segment.outputs)),
            )
        elif step.push is not None:
            sent = step.push
            yield _Event(
                f"push {sent.id!r}",
                frozenset((begun, *at(call.host, sent.tensors))),
                (done, ("pushed", sent.id), *at(sent.peer, sent.tensors)),
            )
        elif step.awaits is not None:
            awaited = step.awaits
            needs = {begun, ("pushed", awaited.id)}
            yield _Event(f"await {awaited.id!r}", frozenset(needs), (done,))
    back = () if call.caller is None else at(call.caller, call.outputs)
    yield _Event(f"the end of call {call.id!r}", frozenset(ends), (("ended", call.id), *back))


def _explained(left: Sequence[_Event], true: set[Fact]) -> str:
    """The first thing that nothing gives; otherwise a circle."""
    given = {fact for event in left for fact in event.gives}
    for event in left:
        for fact in sorted(event.needs - true - given):
            return f"{event.what} waits for {_named(fact)}, which never comes"
    giver = {fact: event for event in left for fact in event.gives}
    passed: list[_Event] = []
    event = left[0]
    while event not in passed:
        passed.append(event)
        event = giver[min(event.needs - true)]
    circle = [each.what for each in passed[passed.index(event) :]]
    return f"these wait for each other: {', '.join(circle[:6])}"


def _named(fact: Fact) -> str:
    match fact:
        case ("at", host, tensor):
            return f"tensor {tensor!r} at host {host!r}"
        case ("started", call):
            return f"call {call!r} to begin"
        case ("pushed", exchange):
            return f"push {exchange!r}"
        case _:
            return f"call {fact[1]!r} to end"
