"""The manifest as one host sees it: its calls, who produces a tensor, how long a call may take."""

from __future__ import annotations

from collections.abc import Iterator

from partc.bundle.exchanges import pushes_of
from partc.bundle.manifest import CallEntry, SegmentEntry, StepEntry, TensorSpec, TransferEntry
from partc.bundle.reader import Bundle
from partc.codecs import NONE
from partc.errors import BundleError

DEADLINE_FACTOR = 10.0
SHORTEST_DEADLINE_S = 1.0


class HostPlan:
    """Look-ups that an executor needs for every request, made once.

    Attributes:
        calls: the calls that this host carries out, of all plans of the bundle, by id.
        peers: the hosts that it calls itself.
        segments: all segments of all plans, by id.
        root_call: the request itself, by the chosen plan.
        pushed_here: what other hosts push to this one, by id.
        pushed_to: the hosts that it pushes to.
    """

    def __init__(self, bundle: Bundle, host: str, deadline_s: float | None = None) -> None:
        self.entry = bundle.host(host)
        self.host = host
        self.identity = bundle.identity
        self._deadline_s = deadline_s
        plans = bundle.manifest.plans
        self._all_calls = {call.id: call for plan in plans for call in plan.calls}
        self._plan_of = {
            call.id: number for number, plan in enumerate(plans) for call in plan.calls
        }
        self.calls = {c.id: c for c in self._all_calls.values() if c.host == host}
        self.peers = tuple(
            dict.fromkeys(c.host for c in self._all_calls.values() if c.caller == host)
        )
        self.segments: dict[str, SegmentEntry] = {s.id: s for plan in plans for s in plan.segments}
        self.tensors: dict[str, TensorSpec] = bundle.manifest.tensors
        self.root_call = plans[0].calls[0]
        self._producer = [{t: s.id for s in plan.segments for t in s.outputs} for plan in plans]
        pushes = [push for plan in plans for push in pushes_of(plan)]
        self.pushed_here = {push.id: push for push in pushes if push.receiver == host}
        self.pushed_to = tuple(
            dict.fromkeys(push.receiver for push in pushes if push.sender == host)
        )
        self._serial_s = [
            sum(s.predicted_s for s in plan.segments) + sum(t.predicted_s for t in plan.transfers)
            for plan in plans
        ]
        self._behind = {call: frozenset(self._hosts_behind(call)) for call in self._all_calls}
        self._awaited = {call: frozenset(self._all_awaited(call)) for call in self._all_calls}
        self._partners = {call: self._all_partners(call) for call in self._all_calls}
        self._transfers = [
            {(t.tensor, t.sender, t.receiver): t for t in plan.transfers} for plan in plans
        ]
        self._deadlines_s = {call: self._own_deadline_s(call) for call in self._all_calls}

    def is_alone(self, call_id: str) -> bool:
        """Whether this host carries out no other call of the same request, and awaits nothing."""
        number = self._plan_of[call_id]
        alone = sum(self._plan_of[other] == number for other in self.calls) == 1
        return alone and not self._partners[call_id]

    def hosts_behind(self, call_id: str) -> frozenset[str]:
        """The hosts that take part in a call."""
        return self._behind[call_id]

    def awaited_from(self, call_id: str) -> frozenset[str]:
        """The hosts whose tensors a call awaits, here or behind it, and that take no part in it."""
        return self._awaited[call_id]

    def partners(self, call_id: str) -> frozenset[str]:
        """Those, and the hosts that it pushes to."""
        return self._partners[call_id]

    def _steps_of(self, call_id: str) -> Iterator[StepEntry]:
        for step in self.call(call_id).steps:
            yield step
            if step.call is not None:
                yield from self._steps_of(step.call)

    def _hosts_behind(self, call_id: str) -> Iterator[str]:
        yield self.call(call_id).host
        for step in self._steps_of(call_id):
            if step.call is not None:
                yield self.call(step.call).host

    def _all_awaited(self, call_id: str) -> Iterator[str]:
        for step in self._steps_of(call_id):
            if step.awaits is not None and step.awaits.peer not in self._behind[call_id]:
                yield step.awaits.peer

    def _all_partners(self, call_id: str) -> frozenset[str]:
        pushed_to = {step.push.peer for step in self._steps_of(call_id) if step.push is not None}
        return self._awaited[call_id] | (pushed_to - self._behind[call_id])

    def call(self, call_id: str) -> CallEntry:
        """A call of any plan."""
        return self._all_calls[call_id]

    def specs(self, names: list[str]) -> list[TensorSpec]:
        """What the manifest says of tensors.

        Raises:
            BundleError: a tensor is not described.
        """
        for name in names:
            if name not in self.tensors:
                raise BundleError(f"the manifest does not describe tensor {name!r}")
        return [self.tensors[name] for name in names]

    def producer(self, tensor: str, call_id: str) -> SegmentEntry | None:
        """The segment that computes a tensor in the plan of a call; None for a model input."""
        segment = self._producer[self._plan_of[call_id]].get(tensor)
        return None if segment is None else self.segments[segment]

    def codecs_there(self, call_id: str) -> dict[str, str]:
        """How the inputs of a call travel: tensor -> codec, for those that have one."""
        call = self.call(call_id)
        return self._codecs_of(call_id, call.inputs, call.caller, call.host)

    def codecs_back(self, call_id: str) -> dict[str, str]:
        """How the outputs of a call travel."""
        call = self.call(call_id)
        return self._codecs_of(call_id, call.outputs, call.host, call.caller)

    def codecs_of_push(self, call_id: str, receiver: str, tensors: list[str]) -> dict[str, str]:
        """How what this host pushes during a call travels."""
        return self._codecs_of(call_id, tensors, self.host, receiver)

    def _codecs_of(
        self, call_id: str, tensors: list[str], sender: str | None, receiver: str | None
    ) -> dict[str, str]:
        found = {
            name: self._transfer(call_id, name, sender or "", receiver or "") for name in tensors
        }
        return {name: t.codec for name, t in found.items() if t is not None and t.codec != NONE}

    def _transfer(
        self, call_id: str, tensor: str, sender: str, receiver: str
    ) -> TransferEntry | None:
        return self._transfers[self._plan_of[call_id]].get((tensor, sender, receiver))

    def _transfer_s(self, call_id: str, tensor: str, sender: str, receiver: str) -> float:
        transfer = self._transfer(call_id, tensor, sender, receiver)
        return 0.0 if transfer is None else transfer.predicted_s

    def predicted_s(self, call_id: str) -> float:
        """Predicted time of a round trip with everything behind it.

        Where it waits for other hosts, no more than everything that the plan does.
        """
        if self._awaited[call_id]:
            return self._serial_s[self._plan_of[call_id]]
        call = self.call(call_id)
        caller = call.caller or call.host
        there = sum(self._transfer_s(call_id, t, caller, call.host) for t in call.inputs)
        back = sum(self._transfer_s(call_id, t, call.host, caller) for t in call.outputs)
        inside = sum(
            self.segments[step.run].predicted_s
            if step.run is not None
            else self.predicted_s(str(step.call))
            for step in call.steps
            if step.run is not None or step.call is not None
        )
        return there + inside + back

    def deadline_s(self, call_id: str) -> float:
        """How long the caller waits: generous against the prediction, and longer than any
        deadline behind it, so that the called host can still finish by itself."""
        return self._deadlines_s[call_id]

    def longest_deadline_s(self, peer: str) -> float:
        """The deadline of the longest call that this host makes to ``peer``."""
        return max(
            self._deadlines_s[call.id]
            for call in self._all_calls.values()
            if (call.caller, call.host) == (self.host, peer)
        )

    def _own_deadline_s(self, call_id: str) -> float:
        if self._deadline_s is not None:
            return self._deadline_s
        behind = sum(
            self._own_deadline_s(step.call)
            for step in self.call(call_id).steps
            if step.call is not None
        )
        return max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * self.predicted_s(call_id)) + behind
