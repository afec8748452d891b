"""The manifest as one host sees it: its calls, who produces a tensor, how long a call may take."""

from __future__ import annotations

from partc.bundle.manifest import CallEntry, SegmentEntry, TensorSpec
from partc.bundle.reader import Bundle
from partc.codecs import NONE
from partc.errors import BundleError

DEADLINE_FACTOR = 10.0
SHORTEST_DEADLINE_S = 1.0


class HostPlan:
    """Look-ups that an executor needs for every request, made once.

    Attributes:
        calls: the calls that this host carries out, by id.
        peers: the hosts that it calls itself.
        segments: all segments of the plan, by id.
    """

    def __init__(self, bundle: Bundle, host: str, deadline_s: float | None = None) -> None:
        self.entry = bundle.host(host)
        self.host = host
        self.identity = bundle.identity
        self._deadline_s = deadline_s
        plan = bundle.manifest.plan
        self._all_calls = {call.id: call for call in plan.calls}
        self.calls = {call.id: call for call in plan.calls if call.host == host}
        self.peers = tuple(dict.fromkeys(call.host for call in plan.calls if call.caller == host))
        self.segments: dict[str, SegmentEntry] = {s.id: s for s in plan.segments}
        self.tensors: dict[str, TensorSpec] = bundle.manifest.tensors
        self.root_call = plan.calls[0]
        self._producer = {name: s.id for s in plan.segments for name in s.outputs}
        self._transfer_s = {(t.tensor, t.sender, t.receiver): t.predicted_s for t in plan.transfers}
        self._codecs: dict[tuple[str, str | None, str | None], str] = {
            (t.tensor, t.sender, t.receiver): t.codec for t in plan.transfers if t.codec != NONE
        }
        self._deadlines_s = {call: self._own_deadline_s(call) for call in self._all_calls}

    def call(self, call_id: str) -> CallEntry:
        """A call of the plan."""
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

    def producer(self, tensor: str) -> SegmentEntry | None:
        """The segment that computes a tensor; None for an input of the model."""
        segment = self._producer.get(tensor)
        return None if segment is None else self.segments[segment]

    def codecs_there(self, call_id: str) -> dict[str, str]:
        """How the inputs of a call travel: tensor -> codec, for those that have one."""
        call = self.call(call_id)
        return self._codecs_of(call.inputs, call.caller, call.host)

    def codecs_back(self, call_id: str) -> dict[str, str]:
        """How the outputs of a call travel."""
        call = self.call(call_id)
        return self._codecs_of(call.outputs, call.host, call.caller)

    def _codecs_of(
        self, tensors: list[str], sender: str | None, receiver: str | None
    ) -> dict[str, str]:
        found = {name: self._codecs.get((name, sender, receiver)) for name in tensors}
        return {name: codec for name, codec in found.items() if codec is not None}

    def predicted_s(self, call_id: str) -> float:
        """Predicted time of a round trip with everything behind it."""
        call = self.call(call_id)
        caller = call.caller or call.host
        there = sum(self._transfer_s.get((t, caller, call.host), 0.0) for t in call.inputs)
        back = sum(self._transfer_s.get((t, call.host, caller), 0.0) for t in call.outputs)
        inside = sum(
            self.segments[step.run].predicted_s
            if step.run is not None
            else self.predicted_s(str(step.call))
            for step in call.steps
        )
        return there + inside + back

    def deadline_s(self, call_id: str) -> float:
        """How long the caller waits: generous against the prediction, and longer than any
        deadline behind it, so that the called host can still finish by itself."""
        return self._deadlines_s[call_id]

    def _own_deadline_s(self, call_id: str) -> float:
        if self._deadline_s is not None:
            return self._deadline_s
        behind = sum(
            self._own_deadline_s(step.call)
            for step in self.call(call_id).steps
            if step.call is not None
        )
        return max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * self.predicted_s(call_id)) + behind
