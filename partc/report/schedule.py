"""When things happen in a request, by the predicted times: hosts work side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from partc.bundle.manifest import CallEntry, SegmentEntry, StepEntry
from partc.report.facts import Cut, Facts


@dataclass(frozen=True)
class Run:
    """A host runs a segment from ``start_s`` to ``end_s`` of the request."""

    segment: SegmentEntry
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Move:
    """Tensors that leave their host in one message."""

    sender: str
    receiver: str
    cuts: tuple[Cut, ...]
    start_s: float

    @property
    def seconds(self) -> float:
        """On the link, one after the other."""
        return sum(cut.transfer.predicted_s for cut in self.cuts)


def schedule(facts: Facts) -> list[Run | Move]:
    """Everything that happens in a request, in the order in which it begins."""
    return _Schedule(facts).events()


@dataclass
class _Thread:
    """A call on its way through its steps."""

    call: CallEntry
    clock_s: float
    steps: list[StepEntry] = field(default_factory=list)
    is_done: bool = False


class _Schedule:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        plan = facts.manifest.plan
        self.calls = {call.id: call for call in plan.calls}
        self.made: list[Run | Move] = []
        # Tensor and host -> when it is there; who awaits a tensor needs it like any other.
        self.at: dict[tuple[str, str], float] = {}
        inputs = {spec.name for spec in facts.manifest.model.inputs}
        for tensor in sorted(inputs):
            self.at[tensor, facts.manifest.topology.input_home(tensor)] = 0.0
            self.at.setdefault((tensor, plan.root), 0.0)
        self.free_s: dict[str, float] = defaultdict(float)
        self.threads = [_Thread(plan.calls[0], 0.0, list(plan.calls[0].steps))]

    def events(self) -> list[Run | Move]:
        """Whatever can happen next happens; a plan that was checked leaves nothing over."""
        is_moving = True
        while is_moving:
            is_moving = False
            for thread in list(self.threads):
                while self._step(thread):
                    is_moving = True
        order = {id(event): place for place, event in enumerate(self.made)}
        return sorted(self.made, key=lambda event: (event.start_s, order[id(event)]))

    def _step(self, thread: _Thread) -> bool:
        """Take the next step of a call; False where it has to wait, or has none left."""
        host = thread.call.host
        if thread.is_done:
            return False
        if not thread.steps:
            return self._return(thread)
        step = thread.steps[0]
        if step.run is not None:
            segment = self.facts.manifest.segment(step.run)
            ready_s = self._ready(segment.inputs, host)
            if ready_s is None:
                return False
            start_s = max(thread.clock_s, ready_s, self.free_s[host])
            thread.clock_s = self.free_s[host] = start_s + segment.predicted_s
            self.at.update({(tensor, host): thread.clock_s for tensor in segment.outputs})
            self.made.append(Run(segment, start_s, thread.clock_s))
        elif step.call is not None:
            called = self.calls[step.call]
            arrived_s = self._move(thread, called.host, called.inputs)
            if arrived_s is None:
                return False
            self.threads.append(_Thread(called, arrived_s, list(called.steps)))
        elif step.push is not None:
            if self._move(thread, step.push.peer, step.push.tensors) is None:
                return False
        elif step.awaits is not None and self._ready(step.awaits.tensors, host) is None:
            return False
        del thread.steps[0]
        return True

    def _return(self, thread: _Thread) -> bool:
        call = thread.call
        if call.caller is not None and self._move(thread, call.caller, call.outputs) is None:
            return False
        thread.is_done = True
        return True

    def _move(self, thread: _Thread, receiver: str, tensors: Sequence[str]) -> float | None:
        """When they have arrived; None where the sender does not have them yet."""
        sender = thread.call.host
        ready_s = self._ready(tensors, sender)
        if ready_s is None:
            return None
        start_s = max(thread.clock_s, ready_s)
        found = [self.facts.cut_of.get((tensor, receiver)) for tensor in tensors]
        cuts = tuple(c for c in found if c is not None and c.transfer.sender == sender)
        move = Move(sender, receiver, cuts, start_s)
        if cuts:
            self.made.append(move)
        arrived_s = start_s + move.seconds
        for tensor in tensors:
            self.at.setdefault((tensor, receiver), arrived_s)
        return arrived_s

    def _ready(self, tensors: Sequence[str], host: str) -> float | None:
        times = [self.at.get((tensor, host)) for tensor in tensors]
        known = [time for time in times if time is not None]
        return max(known, default=0.0) if len(known) == len(times) else None
