"""Carries out the calls of one host: runs segments, calls hosts, pushes to others.

The same on every host: the root, a gateway, a server. `work` goes through one call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from partc.bundle.manifest import CallEntry, ExchangeEntry, SegmentEntry
from partc.runtime.health import PeerHealth
from partc.runtime.held import HeldRequests
from partc.runtime.host_plan import HostPlan
from partc.runtime.recovery import Recovery
from partc.runtime.segments import SegmentPool
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallRequest,
    FailureKind,
    GivingUp,
    PendingCall,
    Report,
    SegmentTime,
    Transport,
)
from partc.runtime.work import CallUnderWay, PushUnderWay, Work

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
        giving_up: GivingUp | None = None,
    ) -> CallReply:
        """Carry out a call.

        Args:
            received: the tensors that the caller sent, checked.
            time_left_s: after this the caller no longer waits.
            giving_up: says so when the caller no longer waits for another reason.

        Raises:
            CallFailedError: the host no longer holds what it needs, or is full, or a host with
                which it exchanges tensors failed.
            HostUnreachableError: a further host failed and this one cannot replace it.
            TargetError: a segment failed.
        """
        call = self.plan.calls[call_id]
        end_s = math.inf if time_left_s is None else time.perf_counter() + time_left_s
        with self.held.during_call(request, call_id, received) as state:
            work = Work(self, call, request, state, end_s, giving_up)
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
    ) -> CallUnderWay:
        """Send a call to another host.

        Raises:
            CallFailedError: the host is known to be down.
        """
        start_s = time.perf_counter()
        share_s = _SHARE_FOR_FURTHER_HOSTS * max(0.0, end_s - start_s)
        wait_s = min(self.plan.deadline_s(call.id), share_s)
        codecs = self.plan.codecs_there(call.id)
        pending = self._send(call.host, call.id, request, call.inputs, tensors, wait_s, codecs)
        return CallUnderWay(call, pending, start_s, start_s + wait_s)

    def start_push(
        self,
        call: CallEntry,
        push: ExchangeEntry,
        request: str,
        tensors: Mapping[str, Array],
        end_s: float,
    ) -> PushUnderWay:
        """Send tensors to a host that awaits them.

        Raises:
            CallFailedError: the host is known to be down.
        """
        start_s = time.perf_counter()
        codecs = self.plan.codecs_of_push(call.id, push.peer, push.tensors)
        pending = self._send(
            push.peer, push.id, request, push.tensors, tensors, end_s - start_s, codecs, True
        )
        return PushUnderWay(push, pending, start_s)

    def _send(
        self,
        host: str,
        model: str,
        request: str,
        names: Sequence[str],
        tensors: Mapping[str, Array],
        wait_s: float,
        codecs: Mapping[str, str],
        is_push: bool = False,
    ) -> PendingCall:
        if self._transport is None:
            raise CallFailedError(FailureKind.UNREACHABLE, "it cannot be called from here")
        if (down := self._health.why_down(host)) is not None:
            raise CallFailedError(FailureKind.UNREACHABLE, down)
        message = CallRequest(
            call=model,
            request=request,
            identity=self.plan.identity,
            tensors={name: tensors[name] for name in names},
            time_left_s=wait_s,
            codecs=codecs,
            is_push=is_push,
        )
        return self._transport.start(host, message)

    def why_down(self, host: str) -> str | None:
        """Why a host is known to be down, or None."""
        return self._health.why_down(host)

    def note_answer(self, host: str) -> None:
        """Trust a host again that had failed before."""
        self._health.note_answer(host)

    def note_failure(self, host: str, failure: CallFailedError) -> None:
        """Keep later requests from trying a host that is down.

        One that waited for another in vain is well, if this host knows the other and can find out
        whether that one is.
        """
        if failure.kind is FailureKind.PEER:
            if failure.peer in self.plan.peers and failure.peer is not None:
                host = failure.peer
        elif not failure.kind.host_is_down:
            return
        if self._health.why_down(host) is None:
            self._health.mark_down(host, failure.reason)
