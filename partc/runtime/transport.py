"""What hosts say to each other, whatever carries it: gRPC in earnest, memory in unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class FailureKind(Enum):
    """Why a call brought no answer. Only ``REFUSED`` is the fault of the request.

    ``PEER`` is the fault of a further host, with which the called one exchanges tensors.
    """

    UNREACHABLE = "unreachable"
    DEADLINE = "deadline"
    LOST_STATE = "lost-state"
    PEER = "peer"
    OTHER_BUNDLE = "other-bundle"
    BUSY = "busy"
    ERROR = "error"
    REFUSED = "refused"

    @property
    def host_is_down(self) -> bool:
        """Whether later requests should not try the host before a probe has found it well."""
        return self in (FailureKind.UNREACHABLE, FailureKind.DEADLINE, FailureKind.OTHER_BUNDLE)


class CallFailedError(Exception):
    """A call brought no answer.

    Attributes:
        reason: a clause such as "the connection was refused".
        peer: with ``PEER``, the host that is to blame, where that is known.
    """

    def __init__(self, kind: FailureKind, reason: str, peer: str | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.peer = peer


@dataclass(frozen=True)
class SegmentTime:
    """How long a segment ran on ``host``, the emulated slowdown included."""

    segment: str
    host: str
    seconds: float


@dataclass(frozen=True)
class CallTime:
    """One round trip, as its caller saw it; bytes are of messages, without transport headers."""

    call: str
    caller: str
    host: str
    seconds: float
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True)
class PushTime:
    """One message from host to host beside the calls.

    Attributes:
        seconds: until it was on its way; over gRPC, until the receiver said that it has it.
    """

    push: str
    sender: str
    receiver: str
    seconds: float
    sent_bytes: int
    received_bytes: int


@dataclass
class Report:
    """What happened on a host, and on the hosts behind it, while a call was carried out.

    Attributes:
        failures: one sentence for each host that brought no answer; empty when all went well.
    """

    segments: list[SegmentTime] = field(default_factory=list)
    calls: list[CallTime] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    pushes: list[PushTime] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Append what a further host reports."""
        self.segments.extend(other.segments)
        self.calls.extend(other.calls)
        self.failures.extend(other.failures)
        self.pushes.extend(other.pushes)


@dataclass(frozen=True)
class CallRequest:
    """A call with the tensors that its host does not hold yet, or a push.

    Attributes:
        call: or the push's id.
        identity: of the bundle that the caller works with; the host refuses another one.
        time_left_s: after this the caller no longer waits.
        codecs: how the plan wants tensors to travel; those not named travel as they are.
        is_push: nothing comes back, and nothing goes on only when it has arrived.
    """

    call: str
    request: str
    identity: str
    tensors: Mapping[str, Array]
    time_left_s: float
    codecs: Mapping[str, str] = field(default_factory=dict)
    is_push: bool = False


@dataclass(frozen=True)
class CallReply:
    """The answer to a call."""

    tensors: Mapping[str, Array]
    report: Report
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True)
class PendingCall:
    """A call under way: ``future`` gives a `CallReply` or raises `CallFailedError`.

    ``abandon`` frees what the transport keeps for it; the answer is then never delivered.
    """

    future: Future[CallReply]
    abandon: Callable[[], None]


class GivingUp:
    """Tells who carries out a call that its caller no longer waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether the caller has given up."""
        return self._is_set

    def set(self) -> None:
        """Say so."""
        with self._lock:
            self._is_set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the caller gives up, at once where it has already."""
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return
        callback()


class Transport(Protocol):
    """Carries calls and pushes to other hosts."""

    def start(self, host: str, request: CallRequest) -> PendingCall:
        """Send a call without waiting for its answer."""

    def probe(self, host: str, timeout_s: float, *, patient: bool = True) -> str | None:
        """None when ``host`` is ready, otherwise a clause that says why not.

        Args:
            patient: try again within the time when the connection is refused.
        """

    def close(self) -> None:
        """Drop all connections."""
