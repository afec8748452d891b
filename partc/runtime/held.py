"""What a host keeps of a request between its calls, within limits."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partc.runtime.transport import CallFailedError, FailureKind

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class HeldLimits:
    """How much a host keeps for requests that are not finished.

    Attributes:
        age_s: a request that nobody calls for is forgotten after this time.
        share_before_calls: of requests and bytes, what requests may take that are known by pushes
            alone, so that who pushes for requests that do not exist keeps no other out.
        finished: how many requests are remembered as finished; what is pushed for them later is
            dropped.
    """

    requests: int = 256
    bytes: int = 1 << 30
    age_s: float = 60.0
    share_before_calls: float = 0.5
    finished: int = 4096


NO_LIMITS = HeldLimits(requests=1 << 62, bytes=1 << 62, age_s=math.inf)


@dataclass
class RequestState:
    """The tensors of one request that a host has received or produced, by name.

    Attributes:
        is_called: otherwise it is known by pushes alone.
        arrived: called whenever a push has brought tensors, one for each call under way.
    """

    tensors: dict[str, Array] = field(default_factory=dict)
    size_bytes: int = 0
    calls_under_way: int = 0
    calls_made: set[str] = field(default_factory=set)
    touched_s: float = 0.0
    is_called: bool = False
    arrived: list[Callable[[], None]] = field(default_factory=list)


class HeldRequests:
    """The requests of one host, by request id. Idle ones give way to new ones, oldest first.

    Args:
        calls: call -> every call that the same request makes to this host; after all of them the
            request is forgotten.
    """

    def __init__(
        self,
        calls: Mapping[str, frozenset[str]],
        limits: HeldLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._limits = limits or HeldLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._states: OrderedDict[str, RequestState] = OrderedDict()
        self._bytes = 0
        self._finished: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    @property
    def size_bytes(self) -> int:
        """Bytes held for all requests."""
        return self._bytes

    @property
    def calls_under_way(self) -> int:
        """Calls that are being carried out."""
        with self._lock:
            return sum(state.calls_under_way for state in self._states.values())

    @contextmanager
    def during_call(
        self, request: str, call: str, received: Mapping[str, Array]
    ) -> Iterator[RequestState]:
        """The state of a request with ``received`` added, while one call is carried out.

        Raises:
            CallFailedError: there is no room for another request.
        """
        with self._lock:
            state = self._enter(request, received)
        try:
            yield state
        finally:
            with self._lock:
                self._leave(request, state, call)

    def push(self, request: str, tensors: Mapping[str, Array]) -> None:
        """Keep tensors that another host pushes for a request, which may not be known here yet.

        The first of each name counts; what comes for a request that is finished is dropped.

        Raises:
            CallFailedError: there is no room.
        """
        with self._lock:
            if request in self._finished:
                return
            state = self._states.get(request)
            known = () if state is None else state.tensors
            fresh = {name: array for name, array in tensors.items() if name not in known}
            arriving = sum(_size_bytes(array) for array in fresh.values())
            if state is not None and state.is_called:
                self._make_room(0, arriving, keep=request)
            else:
                self._make_room_before_calls(0 if state else 1, arriving, keep=request)
            if state is None:
                state = self._states[request] = RequestState()
            state.tensors.update(fresh)
            state.size_bytes += arriving
            self._bytes += arriving
            state.touched_s = self._clock()
            arrived = list(state.arrived)
        for wake in arrived:
            wake()

    def forget_old(self) -> None:
        """Drop requests that nobody has called for within the age limit."""
        with self._lock:
            oldest_s = self._clock() - self._limits.age_s
            for request, state in list(self._states.items()):
                if not state.calls_under_way and state.touched_s < oldest_s:
                    self._drop(request)

    def _enter(self, request: str, received: Mapping[str, Array]) -> RequestState:
        state = self._states.get(request)
        arriving = sum(_size_bytes(array) for array in received.values())
        self._make_room(0 if state else 1, arriving, keep=request)
        if state is None:
            state = self._states[request] = RequestState()
            self._finished.pop(request, None)
        self._states.move_to_end(request)
        state.is_called = True
        state.tensors.update(received)
        state.size_bytes += arriving
        self._bytes += arriving
        state.calls_under_way += 1
        state.touched_s = self._clock()
        return state

    def _leave(self, request: str, state: RequestState, call: str) -> None:
        state.calls_under_way -= 1
        state.calls_made.add(call)
        state.touched_s = self._clock()
        if state.calls_made >= self._calls[call] and not state.calls_under_way:
            self._drop(request)
            self._finished[request] = None
            if len(self._finished) > self._limits.finished:
                self._finished.popitem(last=False)
            return
        size_bytes = sum(_size_bytes(array) for array in list(state.tensors.values()))
        self._bytes += size_bytes - state.size_bytes
        state.size_bytes = size_bytes
        self._make_room(0, 0, keep=None)

    def _make_room_before_calls(self, requests: int, size_bytes: int, keep: str) -> None:
        """Among the requests that are known by pushes alone; they push out no others."""
        waiting = {r: s for r, s in self._states.items() if not s.is_called}
        share = self._limits.share_before_calls

        def fits() -> bool:
            held = sum(state.size_bytes for state in waiting.values())
            return (
                len(waiting) + requests <= share * self._limits.requests
                and held + size_bytes <= share * self._limits.bytes
                and self._fits(requests, size_bytes)
            )

        while not fits():
            oldest = next((request for request in waiting if request != keep), None)
            if oldest is None:
                raise CallFailedError(
                    FailureKind.BUSY, "it holds no more for requests that nobody has called for"
                )
            del waiting[oldest]
            self._drop(oldest)

    def _make_room(self, requests: int, size_bytes: int, keep: str | None) -> None:
        for request, state in list(self._states.items()):
            if self._fits(requests, size_bytes):
                return
            if not state.calls_under_way and request != keep:
                self._drop(request)
        if (requests or size_bytes) and not self._fits(requests, size_bytes):
            raise CallFailedError(
                FailureKind.BUSY,
                f"it already holds {len(self._states)} requests with {self._bytes} bytes",
            )

    def _fits(self, requests: int, size_bytes: int) -> bool:
        return (
            len(self._states) + requests <= self._limits.requests
            and self._bytes + size_bytes <= self._limits.bytes
        )

    def _drop(self, request: str) -> None:
        state = self._states.pop(request, None)
        if state is not None:
            self._bytes -= state.size_bytes


def _size_bytes(array: Array) -> int:
    if array.dtype.kind != "O":
        return array.nbytes
    return sum(64 + len(element) for element in array.flat)
