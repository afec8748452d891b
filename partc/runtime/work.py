"""One call being carried out: each step as soon as what it needs is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from partc.bundle.manifest import CallEntry, ExchangeEntry, SegmentEntry, StepEntry
from partc.errors import RequestError
from partc.runtime.checking import checked_tensors
from partc.runtime.held import RequestState
from partc.runtime.host_plan import HostPlan
from partc.runtime.recovery import Recovery
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallTime,
    FailureKind,
    GivingUp,
    PendingCall,
    PushTime,
    Report,
)

Array = np.ndarray[Any, np.dtype[Any]]

_SHARE_FOR_PEERS = 0.8
"""Of the time its caller waits, how long a host waits for others' tensors: it can then still say
for whom it waited."""


@dataclass(frozen=True)
class CallUnderWay:
    """A call that another host carries out."""

    call: CallEntry
    pending: PendingCall
    start_s: float
    deadline_s: float


@dataclass(frozen=True)
class PushUnderWay:
    """Tensors that another host awaits, until the transport says that they are on their way."""

    push: ExchangeEntry
    pending: PendingCall
    start_s: float
    is_second: bool = False


class Means(Protocol):
    """What a host can do for a call: `partc.runtime.executor.Executor`."""

    plan: HostPlan
    recovery: Recovery

    def run_segment(
        self, segment: SegmentEntry, tensors: dict[str, Array], report: Report, end_s: float = ...
    ) -> dict[str, Array]:
        """Run a segment here."""

    def start_call(
        self, call: CallEntry, request: str, tensors: Mapping[str, Array], end_s: float
    ) -> CallUnderWay:
        """Send a call."""

    def start_push(
        self,
        call: CallEntry,
        push: ExchangeEntry,
        request: str,
        tensors: Mapping[str, Array],
        end_s: float,
    ) -> PushUnderWay:
        """Send tensors."""

    def why_down(self, host: str) -> str | None:
        """Why a host is known to be down, or None."""

    def note_answer(self, host: str) -> None:
        """A host has answered."""

    def note_failure(self, host: str, failure: CallFailedError) -> None:
        """A host has failed."""


class Work:
    """One call. Segments run in the thread that carries it out; all else goes on beside them.

    Args:
        state: what this host holds for the request; other threads add what is pushed.
        end_s: the caller waits no longer, by `time.perf_counter`.
    """

    def __init__(
        self,
        means: Means,
        call: CallEntry,
        request: str,
        state: RequestState,
        end_s: float,
        giving_up: GivingUp | None = None,
    ) -> None:
        self.report = Report()
        self._means = means
        self._plan = means.plan
        self._call = call
        self._request = request
        self._state = state
        self._tensors = state.tensors
        self._end_s = end_s
        self._giving_up = giving_up or GivingUp()
        self._under_way: dict[str, CallUnderWay] = {}
        self._pushing: list[PushUnderWay] = []
        self._failed_hosts: dict[str, str] = {}
        self._lost_hosts: set[str] = set()
        self._wake = threading.Event()
        now_s = time.perf_counter()
        wait_s = min(end_s - now_s, self._plan.deadline_s(call.id))
        self._peers_end_s = now_s + _SHARE_FOR_PEERS * wait_s

    def carry_out(self) -> dict[str, Array]:
        """The outputs of the call."""
        exchanges = any(step.push or step.awaits for step in self._call.steps)
        if exchanges:
            self._state.arrived.append(self._wake.set)
            self._giving_up.then(self._wake.set)
        try:
            self._take_all_steps()
        except BaseException:
            for under_way in self._under_way.values():
                under_way.pending.abandon()
            for pushing in self._pushing:
                pushing.pending.abandon()
            raise
        finally:
            if exchanges:
                self._state.arrived.remove(self._wake.set)
        missing = [name for name in self._call.outputs if name not in self._tensors]
        if missing:
            raise self._lost_tensor(missing[0])
        return {name: self._tensors[name] for name in self._call.outputs}

    def _take_all_steps(self) -> None:
        steps = list(self._call.steps)
        while True:
            # What comes from now on wakes; what has come is seen below.
            self._wake.clear()
            if self._giving_up.is_set:
                raise CallFailedError(FailureKind.DEADLINE, "its caller gave the request up")
            self._take_what_is_done()
            ready = self._first_ready(steps)
            if ready is not None:
                steps.remove(ready)
                self._take(ready)
            elif self._under_way or self._pushing or any(step.awaits for step in steps):
                self._wait([step.awaits for step in steps if step.awaits is not None])
            elif steps:
                raise self._lost_state(steps[0])
            else:
                return

    def _first_ready(self, steps: list[StepEntry]) -> StepEntry | None:
        """The first step that need not wait; calls to one host keep their order.

        Segments come last: what is sent travels while they run.
        """
        later: set[str] = set()
        first_run: StepEntry | None = None
        for step in steps:
            if step.run is not None:
                if first_run is None and self._is_ready(step):
                    first_run = step
                continue
            host = None if step.call is None else self._plan.call(step.call).host
            if host not in later and self._is_ready(step):
                return step
            if host is not None:
                later.add(host)
        return first_run

    def _needs(self, step: StepEntry) -> list[str]:
        if step.run is not None:
            return self._plan.segments[step.run].inputs
        exchange = step.push or step.awaits
        return self._plan.call(str(step.call)).inputs if exchange is None else exchange.tensors

    def _is_ready(self, step: StepEntry) -> bool:
        # A host's calls of one request are made one after the other: a later one may use what
        # an earlier one left there.
        if step.call is not None and self._plan.call(step.call).host in self._under_way:
            return False
        return all(name in self._tensors for name in self._needs(step))

    def _lost_state(self, step: StepEntry) -> CallFailedError:
        return self._lost_tensor(next(n for n in self._needs(step) if n not in self._tensors))

    def _lost_tensor(self, name: str) -> CallFailedError:
        return CallFailedError(
            FailureKind.LOST_STATE,
            f"it does not hold tensor {name!r} of request {self._request!r}; "
            "it was restarted, or dropped the request as too old",
        )

    def _take(self, step: StepEntry) -> None:
        if step.run is not None:
            self._run(self._plan.segments[step.run])
        elif step.call is not None:
            self._start(self._plan.call(step.call))
        elif step.push is not None:
            self._push(step.push)

    def _run(self, segment: SegmentEntry) -> None:
        made = self._means.run_segment(segment, self._tensors, self.report, self._end_s)
        self._tensors.update(made)

    def _start(self, call: CallEntry) -> None:
        if call.host in self._failed_hosts:
            self._replace(call)
            return
        if lost := self._plan.partners(call.id) & self._lost_hosts:
            self._failed(call, _in_vain(min(lost)), is_well=True)
            return
        try:
            self._check_partners(call)
            started = self._means.start_call(call, self._request, self._tensors, self._end_s)
        except CallFailedError as failure:
            self._failed(call, failure)
            return
        self._under_way[call.host] = started
        started.pending.future.add_done_callback(lambda _: self._wake.set())

    def _check_partners(self, call: CallEntry) -> None:
        """Do not begin what would wait for a host that is down."""
        for host in sorted(self._plan.partners(call.id)):
            if (why := self._means.why_down(host)) is not None:
                reason = f"it exchanges tensors with host {host!r}, which is down: {why}"
                raise CallFailedError(FailureKind.PEER, reason, host)

    def _push(self, push: ExchangeEntry, is_second: bool = False) -> None:
        try:
            started = self._means.start_push(
                self._call, push, self._request, self._tensors, self._peers_end_s
            )
        except CallFailedError as failure:
            raise self._cannot_push(push, failure) from failure
        self._pushing.append(
            PushUnderWay(started.push, started.pending, started.start_s, is_second)
        )
        started.pending.future.add_done_callback(lambda _: self._wake.set())

    def _cannot_push(self, push: ExchangeEntry, failure: CallFailedError) -> CallFailedError:
        self._means.note_failure(push.peer, failure)
        reason = f"it cannot send tensors to host {push.peer!r}: {failure.reason}"
        return CallFailedError(FailureKind.PEER, reason, push.peer)

    def _take_what_is_done(self) -> None:
        for under_way in [u for u in self._under_way.values() if u.pending.future.done()]:
            self._take_reply(under_way)
        for pushing in [p for p in self._pushing if p.pending.future.done()]:
            self._pushing.remove(pushing)
            self._take_receipt(pushing)

    def _take_receipt(self, pushing: PushUnderWay) -> None:
        push = pushing.push
        try:
            reply = pushing.pending.future.result()
        except CallFailedError as failure:
            if failure.kind is FailureKind.UNREACHABLE and not pushing.is_second:
                # A connection that broke since the last request; the first copy counts.
                self._push(push, is_second=True)
                return
            raise self._cannot_push(push, failure) from failure
        if reply.received_bytes:  # else it is only known to be on its way
            self._means.note_answer(push.peer)
        self.report.pushes.append(
            PushTime(
                push=push.id,
                sender=self._plan.host,
                receiver=push.peer,
                seconds=time.perf_counter() - pushing.start_s,
                sent_bytes=reply.sent_bytes,
                received_bytes=reply.received_bytes,
            )
        )

    def _wait(self, awaited: list[ExchangeEntry]) -> None:
        """Until the first answer, receipt or push, or the first deadline."""
        if self._give_up_what_waits_in_vain():
            return
        for exchange in awaited:
            self._check_peer(exchange)
        moments_s = [under_way.deadline_s for under_way in self._under_way.values()]
        if awaited or self._pushing:
            moments_s.append(self._peers_end_s)
        first_s = min(moments_s)
        if not awaited and not self._pushing and len(self._under_way) == 1:
            # Waiting on one future directly is faster than on an event.
            (only,) = self._under_way.values()
            _wait_for(only.pending.future, first_s - time.perf_counter())
        else:
            self._wake.wait(max(0.0, first_s - time.perf_counter()))
        self._take_what_is_done()
        self._end_what_is_late()
        if time.perf_counter() >= self._peers_end_s:
            self._end_waiting_for_peers(awaited)

    def _end_what_is_late(self) -> None:
        now_s = time.perf_counter()
        for under_way in [u for u in self._under_way.values() if now_s >= u.deadline_s]:
            del self._under_way[under_way.call.host]
            under_way.pending.abandon()
            waited_s = now_s - under_way.start_s
            reason = f"it did not answer in {waited_s:.3g} s"
            self._failed(under_way.call, CallFailedError(FailureKind.DEADLINE, reason))

    def _end_waiting_for_peers(self, awaited: list[ExchangeEntry]) -> None:
        for pushing in self._pushing:
            late = CallFailedError(FailureKind.DEADLINE, "it did not take them in time")
            raise self._cannot_push(pushing.push, late)
        for exchange in awaited:
            missing = [name for name in exchange.tensors if name not in self._tensors]
            if missing:
                raise CallFailedError(
                    FailureKind.PEER,
                    f"tensor {missing[0]!r} did not come from host {exchange.peer!r} in time",
                    exchange.peer,
                )

    def _check_peer(self, exchange: ExchangeEntry) -> None:
        """Do not wait for a host that is known to be down."""
        why = self._means.why_down(exchange.peer)
        if why is not None and any(name not in self._tensors for name in exchange.tensors):
            reason = f"it awaits tensors of host {exchange.peer!r}, which is down: {why}"
            raise CallFailedError(FailureKind.PEER, reason, exchange.peer)

    def _give_up_what_waits_in_vain(self) -> bool:
        """End the calls that wait for a host that has failed."""
        ended = False
        for under_way in list(self._under_way.values()):
            lost = self._plan.awaited_from(under_way.call.id) & self._lost_hosts
            if lost and not under_way.pending.future.done():
                del self._under_way[under_way.call.host]
                under_way.pending.abandon()
                self._failed(under_way.call, _in_vain(min(lost)), is_well=True)
                ended = True
        return ended

    def _take_reply(self, under_way: CallUnderWay) -> None:
        call = under_way.call
        del self._under_way[call.host]
        try:
            reply = under_way.pending.future.result()
        except CallFailedError as failure:
            self._failed(call, failure)
            return
        self._means.note_answer(call.host)
        self.report.add(reply.report)
        self.report.calls.append(
            CallTime(
                call=call.id,
                caller=self._plan.host,
                host=call.host,
                seconds=time.perf_counter() - under_way.start_s,
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

    def _failed(self, call: CallEntry, failure: CallFailedError, *, is_well: bool = False) -> None:
        """Go on without a host.

        Args:
            is_well: the fault is another's that is known already.
        """
        if failure.kind is FailureKind.REFUSED:
            raise RequestError(f"host {call.host!r} refused the request: {failure.reason}")
        if not is_well:
            self._means.note_failure(call.host, failure)
        self._lost_hosts |= self._plan.hosts_behind(call.id)
        self._failed_hosts[call.host] = f"Host {call.host!r} failed: {failure.reason.rstrip('.')}."
        self.report.failures.append(self._failed_hosts[call.host])
        self._replace(call)

    def _replace(self, call: CallEntry) -> None:
        """Compute here what a failed call would have brought."""
        why = self._failed_hosts[call.host]
        for segment in self._means.recovery.segments(call, self._tensors, why):
            self._run(segment)


def _in_vain(host: str) -> CallFailedError:
    reason = f"it exchanges tensors with host {host!r}, which failed"
    return CallFailedError(FailureKind.PEER, reason, host)


def _wait_for(future: Future[CallReply], timeout_s: float) -> None:
    with suppress(TimeoutError):
        future.exception(max(0.0, timeout_s))
