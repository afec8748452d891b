"""Hosts that call each other within this process: the transport of the unit tests."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from partc.bundle.reader import Bundle
from partc.runtime.device import Deployment
from partc.runtime.host import Host
from partc.runtime.models import HostedModels, ModelRequest, explain
from partc.runtime.segments import Fallback
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallRequest,
    FailureKind,
    PendingCall,
)


class MemoryNetwork:
    """All hosts of a bundle. Faults are set by the tests, per host.

    Attributes:
        down: connections are refused.
        silent: calls are carried out by nobody and never answered.
        failing: call id -> how it fails after the host has carried it out.
        log: every call that was started, in order.
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
        if host in self.down:
            failure = CallFailedError(FailureKind.UNREACHABLE, f"{host} refused the connection")
            future.set_exception(failure)
        elif host not in self.silent:
            threading.Thread(target=self._answer, args=(host, request, future)).start()
        return PendingCall(future, lambda: self.abandoned.append(request.call))

    def probe(self, host: str, timeout_s: float, *, patient: bool = True) -> str | None:
        """Whether no fault is set."""
        return "it is down" if host in self.down | self.silent else None

    def close(self) -> None:
        """Nothing is open."""

    def forget(self, host: str) -> None:
        """As if the host had been restarted."""
        fresh = Host(self.bundle, host, transport=self)
        self.hosts[host] = fresh

    def _answer(self, host: str, request: CallRequest, future: Future[CallReply]) -> None:
        message = ModelRequest(
            model=request.call,
            request=request.request,
            tensors=request.tensors,
            identity=request.identity,
            time_left_s=request.time_left_s,
        )
        try:
            answer = HostedModels(self.hosts[host].executor).answer(message)
            if request.call in self.failing:
                raise self.failing[request.call]
        except Exception as error:
            future.set_exception(CallFailedError(*explain(error)))
        else:
            future.set_result(CallReply(answer.tensors, answer.report))
