"""Hosts that call each other within this process: the transport of the unit tests."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from partc.bundle.reader import Bundle
from partc.runtime.device import Deployment
from partc.runtime.host import Host
from partc.runtime.models import HostedModels, ModelRequest, blamed, explain
from partc.runtime.segments import Fallback
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallRequest,
    FailureKind,
    GivingUp,
    PendingCall,
)


class MemoryNetwork:
    """All hosts of a bundle. Faults are set by the tests, per host.

    Attributes:
        down: connections are refused.
        silent: calls are carried out by nobody and never answered.
        failing: call id -> how it fails after the host has carried it out.
        failing_here: call or push id -> how it fails before the host has seen it.
        failing_once: call or push id -> how it seems to fail, the first time, to who sent it.
        lost: pushes that are on their way for ever.
        log: every call and push that was started, in order.
        abandoned: calls that their caller gave up.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        deadline_s: float | None = None,
        fallback: Fallback = "preload",
    ) -> None:
        self.bundle = Bundle.open(bundle)
        self.down: set[str] = set()
        self.silent: set[str] = set()
        self.failing: dict[str, CallFailedError] = {}
        self.failing_here: dict[str, CallFailedError] = {}
        self.failing_once: dict[str, CallFailedError] = {}
        self.lost: set[str] = set()
        self.log: list[CallRequest] = []
        self.abandoned: list[str] = []
        self.hosts = {
            name: Host(self.bundle, name, deadline_s=deadline_s, fallback=fallback, transport=self)
            for name in self.bundle.manifest.hosts
        }
        self.device = Deployment(self.bundle, self.hosts[self.bundle.manifest.root])

    def start(self, host: str, request: CallRequest) -> PendingCall:
        """Carry the call out in a thread."""
        self.log.append(request)
        future: Future[CallReply] = Future()
        giving_up = GivingUp()
        if request.call in self.failing_here:
            future.set_exception(self.failing_here[request.call])
        elif request.call in self.lost:
            pass
        elif host in self.down:
            failure = CallFailedError(FailureKind.UNREACHABLE, f"{host} refused the connection")
            future.set_exception(failure)
        elif host not in self.silent:
            arguments = (host, request, future, giving_up)
            threading.Thread(target=self._answer, args=arguments).start()

        def abandon() -> None:
            self.abandoned.append(request.call)
            giving_up.set()

        return PendingCall(future, abandon)

    def probe(self, host: str, timeout_s: float, *, patient: bool = True) -> str | None:
        """Whether no fault is set."""
        return "it is down" if host in self.down | self.silent else None

    def close(self) -> None:
        """Nothing is open."""

    def forget(self, host: str) -> None:
        """As if the host had been restarted."""
        fresh = Host(self.bundle, host, transport=self)
        self.hosts[host] = fresh

    def _answer(
        self, host: str, request: CallRequest, future: Future[CallReply], giving_up: GivingUp
    ) -> None:
        message = ModelRequest(
            model=request.call,
            request=request.request,
            tensors=request.tensors,
            identity=request.identity,
            time_left_s=request.time_left_s,
            giving_up=giving_up,
        )
        try:
            answer = HostedModels(self.hosts[host].executor).answer(message)
            if request.call in self.failing:
                raise self.failing[request.call]
            if request.call in self.failing_once:
                raise self.failing_once.pop(request.call)
        except Exception as error:
            future.set_exception(CallFailedError(*explain(error), blamed(error) or None))
        else:
            future.set_result(CallReply(answer.tensors, answer.report))
