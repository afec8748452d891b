"""The bundle that a node serves, and the one before it for as long as requests need it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partc.bundle.manifest import TensorSpec
from partc.bundle.reader import Bundle
from partc.errors import RequestError
from partc.runtime.host import Host
from partc.runtime.models import HostedModels, ModelAnswer, ModelRequest
from partc.runtime.pacing import NATIVE, Pace
from partc.runtime.transport import CallFailedError, FailureKind

LINK_MODEL = "partc.link"
"""A model of every agent that gives back as many bytes as it is asked for: a link's other end."""

LINK_DATA, LINK_WANTED = "data", "wanted"
LARGEST_LINK_BYTES = 16 << 20

_DRAIN_S = 30.0
_QUIET_S = 1.0
_POLL_S = 0.05
_SWEEP_S = 5.0


@dataclass
class Version:
    """One bundle of which this node is a host."""

    id: str
    bundle: Bundle
    host: Host
    models: HostedModels = field(init=False)
    requests_under_way: int = 0
    last_s: float = -float("inf")

    def __post_init__(self) -> None:
        self.models = HostedModels(self.host.executor)

    @property
    def identity(self) -> str:
        """As callers name it in their requests."""
        return self.host.plan.identity

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, nor to be continued, nor was a moment ago."""
        lately = time.monotonic() < self.last_s + _QUIET_S
        return not self.requests_under_way and not lately and not len(self.host.held)


class ServedVersions:
    """The models of a node, whichever bundle they come from.

    A new bundle takes the place of the old one at once; calls that name the old one are still
    answered until its requests are finished, for up to half a minute.

    Args:
        on_closed: called with a version that is no longer needed.
    """

    def __init__(self, on_closed: Callable[[Version], None] = lambda version: None) -> None:
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._current: Version | None = None
        self._draining: list[Version] = []
        self._closing: list[Version] = []
        self._seen = 0
        self._last_s = -float("inf")
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="partc-sweep", daemon=True)
        self._sweeper.start()

    @property
    def current(self) -> Version | None:
        """What is served; None if nothing is."""
        return self._current

    @property
    def requests_seen(self) -> tuple[int, float]:
        """How many requests came so far, and when one was last under way, `time.monotonic`."""
        with self._lock:
            busy = any(v.requests_under_way for v in self._versions())
            return self._seen, time.monotonic() if busy else self._last_s

    @property
    def pace(self) -> Pace:
        """How fast tensors are encoded and decoded."""
        current = self._current
        return NATIVE if current is None else current.models.pace

    @property
    def names(self) -> tuple[str, ...]:
        """Every model."""
        current = self._current
        return (LINK_MODEL,) if current is None else (*current.models.names, LINK_MODEL)

    @property
    def calls_under_way(self) -> int:
        """Calls that are being carried out, of all versions."""
        with self._lock:
            return sum(version.requests_under_way for version in self._versions())

    def signature(self, model: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs of a model.

        Raises:
            CallFailedError: there is no such model.
        """
        if model == LINK_MODEL:
            data = TensorSpec(name=LINK_DATA, dtype="uint8", shape=[None])
            return [data, TensorSpec(name=LINK_WANTED, dtype="int64", shape=[1])], [data]
        return self._served().models.signature(model)

    def answer(self, request: ModelRequest) -> ModelAnswer:
        """Execute a model once, of the bundle that the request names.

        Raises:
            RequestError, CallFailedError, PartcError: as `HostedModels.answer`.
        """
        if request.model == LINK_MODEL:
            return ModelAnswer(request.model, request.request, _link_answer(request.tensors))
        version = self._enter(request.identity)
        try:
            return version.models.answer(request)
        finally:
            with self._lock:
                version.requests_under_way -= 1
                self._last_s = version.last_s = time.monotonic()

    def replace(self, version: Version | None) -> None:
        """Serve another bundle, or none, from now on."""
        with self._lock:
            old, self._current = self._current, version
            if old is not None:
                self._draining.append(old)
        if old is not None:
            threading.Thread(target=self._drain, args=(old,), name="partc-drain").start()

    def close(self) -> None:
        """Free all versions."""
        self._stopping.set()
        self.replace(None)
        while self._draining or self._closing:
            time.sleep(_POLL_S)

    def _versions(self) -> list[Version]:
        return [*([self._current] if self._current else []), *self._draining]

    def _served(self) -> Version:
        current = self._current
        if current is None:
            raise CallFailedError(
                FailureKind.OTHER_BUNDLE,
                "it serves no bundle; send it one with partc deploy",
            )
        return current

    def _enter(self, identity: str) -> Version:
        with self._lock:
            named = [v for v in self._versions() if identity and v.identity == identity]
            version = named[0] if named else self._served()
            version.requests_under_way += 1
            self._seen += 1
            return version

    def _drain(self, version: Version) -> None:
        end_s = time.monotonic() + _DRAIN_S
        while not self._is_drained(version, end_s):
            time.sleep(_POLL_S)
        version.host.close()
        self._on_closed(version)
        with self._lock:
            self._closing.remove(version)

    def _is_drained(self, version: Version, end_s: float) -> bool:
        """Whether nobody needs it any more; if so, nobody finds it from then on."""
        with self._lock:
            stops = self._stopping.is_set() and not version.requests_under_way
            if not (version.is_idle or stops or time.monotonic() >= end_s):
                return False
            self._draining.remove(version)
            self._closing.append(version)
            return True

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_S):
            for version in self._versions():
                version.host.held.forget_old()


def _link_answer(tensors: Mapping[str, Any]) -> dict[str, Any]:
    wanted = np.asarray(tensors.get(LINK_WANTED, ()))
    if set(tensors) != {LINK_DATA, LINK_WANTED} or wanted.dtype != np.int64 or wanted.shape != (1,):
        raise RequestError(f"model {LINK_MODEL!r} takes {LINK_DATA!r} and one {LINK_WANTED!r}")
    size_bytes = int(wanted[0])
    if not 0 <= size_bytes <= LARGEST_LINK_BYTES:
        raise RequestError(f"{LINK_WANTED!r} is not from 0 to {LARGEST_LINK_BYTES} bytes")
    return {LINK_DATA: _noise()[:size_bytes]}


_NOISE: list[Any] = []


def _noise() -> Any:
    """Bytes that no network makes smaller, drawn once."""
    if not _NOISE:
        _NOISE.append(np.random.default_rng(0).integers(0, 256, LARGEST_LINK_BYTES, dtype=np.uint8))
    return _NOISE[0]
