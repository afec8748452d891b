"""Carries out one call on one host: runs its segments, makes its calls, replaces failed hosts.

The same on every host: the root, a gateway, a server.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from partc.bundle.manifest import CallEntry, SegmentEntry, StepEntry
from partc.errors import RequestError
from partc.runtime.checking import checked_tensors
from partc.runtime.health import PeerHealth
from partc.runtime.held import HeldRequests
from partc.runtime.host_plan import HostPlan
from partc.runtime.recovery import Recovery
from partc.runtime.segments import SegmentPool
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallRequest,
    CallTime,
    FailureKind,
    PendingCall,
    Report,
    SegmentTime,
    Transport,
)

Array = np.ndarray[Any, np.dtype[Any]]

_SHARE_FOR_FURTHER_HOSTS = 0.5
"""Of the time its caller waits, what a host gives the hosts behind it; the rest is for itself."""


class Executor:
    """Carries out the calls of one host.

    Args:
        transport: None on a host that calls no other.
    """

    def __init__(
        self,
        plan: HostPlan,
        segments: SegmentPool,
        transport: Transport | None,
        health: PeerHealth,
        held: HeldRequests,
    ) -> None:
        self.plan = plan
        self.segments = segments
        self.held = held
        self.recovery = Recovery(plan, segments.can_run)
        self._transport = transport
        self._health = health

    def handle(
        self,
        call_id: str,
        request: str,
        received: Mapping[str, Array],
        time_left_s: float | None = None,
    ) -> CallReply:
        """Carry out a call.

        Args:
            received: the tensors that the caller sent, checked.
            time_left_s: after this the caller no longer waits.

        Raises:
            CallFailedError: the host no longer holds what it needs, or is full.
            HostUnreachableError: a further host failed and this one cannot replace it.
            TargetError: a segment failed.
        """
        call = self.plan.calls[call_id]
        end_s = math.inf if time_left_s is None else time.perf_counter() + time_left_s
        with self.held.during_call(request, call_id, received) as state:
            work = _Work(self, call, request, state.tensors, end_s)
            return CallReply(work.carry_out(), work.report)

    def run_segment(
        self,
        segment: SegmentEntry,
        tensors: dict[str, Array],
        report: Report,
        end_s: float = math.inf,
    ) -> dict[str, Array]:
        """Run a segment here and note its time; its outputs."""
        outputs, seconds = self.segments.run(segment, tensors, end_s)
        report.segments.append(SegmentTime(segment.id, self.plan.host, seconds))
        return outputs

    def start_call(
        self, call: CallEntry, request: str, tensors: Mapping[str, Array], end_s: float
    ) -> _CallUnderWay:
        """Send a call to another host.

        Raises:
            CallFailedError: the host is known to be down.
        """
        if self._transport is None or (down := self._health.why_down(call.host)) is not None:
            reason = (
                "it cannot be called from here" if self._transport is None else f"{down} (earlier)"
            )
            raise CallFailedError(FailureKind.UNREACHABLE, reason)
        start_s = time.perf_counter()
        share_s = _SHARE_FOR_FURTHER_HOSTS * max(0.0, end_s - start_s)
        wait_s = min(self.plan.deadline_s(call.id), share_s)
        message = CallRequest(
            call=call.id,
            request=request,
            identity=self.plan.identity,
            tensors={name: tensors[name] for name in call.inputs},
            time_left_s=wait_s,
            codecs=self.plan.codecs_there(call.id),
        )
        pending = self._transport.start(call.host, message)
        return _CallUnderWay(call, pending, start_s, start_s + wait_s)

    def note_answer(self, host: str) -> None:
        """Trust a host again that had failed before."""
        self._health.note_answer(host)

    def note_failure(self, host: str, failure: CallFailedError) -> None:
        """Keep later requests from trying a host that is down."""
        if failure.kind.host_is_down and self._health.why_down(host) is None:
            self._health.mark_down(host, failure.reason)


@dataclass(frozen=True)
class _CallUnderWay:
    call: CallEntry
    pending: PendingCall
    start_s: float
    deadline_s: float


class _Work:
    """One call being carried out: steps run as soon as the tensors they need are there."""

    def __init__(
        self,
        executor: Executor,
        call: CallEntry,
        request: str,
        tensors: dict[str, Array],
        end_s: float,
    ) -> None:
        self.report = Report()
        self._executor = executor
        self._plan = executor.plan
        self._call = call
        self._request = request
        self._tensors = tensors
        self._end_s = end_s
        self._under_way: dict[str, _CallUnderWay] = {}
        self._failed_hosts: dict[str, str] = {}

    def carry_out(self) -> dict[str, Array]:
        """The outputs of the call."""
        steps = list(self._call.steps)
        try:
            while steps:
                ready = self._first_ready(steps)
                if ready is not None:
                    steps.remove(ready)
                    if ready.run is not None:
                        self._run(self._plan.segments[ready.run])
                    else:
                        self._start(self._plan.call(str(ready.call)))
                elif self._under_way:
                    self._collect()
                else:
                    raise self._lost_state(steps[0].run, steps[0].call)
            while self._under_way:
                self._collect()
        except BaseException:
            for under_way in self._under_way.values():
                under_way.pending.abandon()
            raise
        missing = [name for name in self._call.outputs if name not in self._tensors]
        if missing:
            raise self._lost_tensor(missing[0])
        return {name: self._tensors[name] for name in self._call.outputs}

    def _first_ready(self, steps: list[StepEntry]) -> StepEntry | None:
        """The first step that need not wait; calls to one host keep their order."""
        later: set[str] = set()
        for step in steps:
            host = None if step.call is None else self._plan.call(step.call).host
            if host not in later and self._is_ready(step.run, step.call):
                return step
            if host is not None:
                later.add(host)
        return None

    def _needs(self, segment_id: str | None, call_id: str | None) -> list[str]:
        if segment_id is not None:
            return self._plan.segments[segment_id].inputs
        return self._plan.call(str(call_id)).inputs

    def _is_ready(self, segment_id: str | None, call_id: str | None) -> bool:
        # A host's calls of one request are made one after the other: a later one may use what
        # an earlier one left there.
        if call_id is not None and self._plan.call(call_id).host in self._under_way:
            return False
        return all(name in self._tensors for name in self._needs(segment_id, call_id))

    def _lost_state(self, segment_id: str | None, call_id: str | None) -> CallFailedError:
        needs = self._needs(segment_id, call_id)
        return self._lost_tensor(next(name for name in needs if name not in self._tensors))

    def _lost_tensor(self, name: str) -> CallFailedError:
        return CallFailedError(
            FailureKind.LOST_STATE,
            f"it does not hold tensor {name!r} of request {self._request!r}; "
            "it was restarted, or dropped the request as too old",
        )

    def _run(self, segment: SegmentEntry) -> None:
        made = self._executor.run_segment(segment, self._tensors, self.report, self._end_s)
        self._tensors.update(made)

    def _start(self, call: CallEntry) -> None:
        if call.host in self._failed_hosts:
            self._replace(call)
            return
        try:
            self._under_way[call.host] = self._executor.start_call(
                call, self._request, self._tensors, self._end_s
            )
        except CallFailedError as failure:
            self._failed(call, failure)

    def _collect(self) -> None:
        """Wait for the first answer, or the first deadline, of the calls under way."""
        futures = {u.pending.future: u for u in self._under_way.values()}
        first_deadline_s = min(u.deadline_s for u in futures.values())
        done = _wait_for_any(list(futures), first_deadline_s - time.perf_counter())
        now_s = time.perf_counter()
        for future, under_way in futures.items():
            call = under_way.call
            if future in done:
                del self._under_way[call.host]
                try:
                    reply = future.result()
                except CallFailedError as failure:
                    self._failed(call, failure)
                else:
                    self._take(under_way, reply, now_s)
            elif now_s >= under_way.deadline_s:
                del self._under_way[call.host]
                under_way.pending.abandon()
                waited_s = now_s - under_way.start_s
                self._failed(
                    call,
                    CallFailedError(FailureKind.DEADLINE, f"it did not answer in {waited_s:.3g} s"),
                )

    def _take(self, under_way: _CallUnderWay, reply: CallReply, now_s: float) -> None:
        call = under_way.call
        self._executor.note_answer(call.host)
        self.report.add(reply.report)
        self.report.calls.append(
            CallTime(
                call=call.id,
                caller=self._plan.host,
                host=call.host,
                seconds=now_s - under_way.start_s,
                sent_bytes=reply.sent_bytes,
                received_bytes=reply.received_bytes,
            )
        )
        try:
            specs = self._plan.specs(call.outputs)
            self._tensors.update(checked_tensors(reply.tensors, specs, what="output"))
        except RequestError as error:
            reason = f"its answer is not what the plan says: {error}"
            self._failed(call, CallFailedError(FailureKind.ERROR, reason))

    def _failed(self, call: CallEntry, failure: CallFailedError) -> None:
        if failure.kind is FailureKind.REFUSED:
            raise RequestError(f"host {call.host!r} refused the request: {failure.reason}")
        self._executor.note_failure(call.host, failure)
        self._failed_hosts[call.host] = f"Host {call.host!r} failed: {failure.reason.rstrip('.')}."
        self.report.failures.append(self._failed_hosts[call.host])
        self._replace(call)

    def _replace(self, call: CallEntry) -> None:
        """Compute here what a failed call would have brought."""
        why = self._failed_hosts[call.host]
        for segment in self._executor.recovery.segments(call, self._tensors, why):
            self._run(segment)


def _wait_for_any(futures: list[Future[CallReply]], timeout_s: float) -> set[Future[CallReply]]:
    if len(futures) == 1:
        # Waiting on one future directly is faster than on a set of one.
        try:
            futures[0].exception(max(0.0, timeout_s))
        except TimeoutError:
            return set()
        return set(futures)
    return wait(futures, max(0.0, timeout_s), return_when=FIRST_COMPLETED).done
