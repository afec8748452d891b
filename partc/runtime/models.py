"""What a host offers to callers: each segment and each call is a model with a name."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from partc.bundle.manifest import TensorSpec
from partc.errors import HostUnreachableError, PartcError, RequestError
from partc.runtime.checking import checked_tensors, shortened
from partc.runtime.executor import Executor
from partc.runtime.pacing import Pace
from partc.runtime.transport import CallFailedError, FailureKind, GivingUp, Report
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]

MAX_REQUEST_ID_LENGTH = 128
MAX_CALLS_AT_ONCE = 64
"""Calls and segments; more are refused at once. Pushes are not counted: calls wait for them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelRequest:
    """A request to a named model.

    Attributes:
        outputs: what is wanted; all when empty.
        identity: of the bundle that the caller works with; empty when it does not say.
        time_left_s: after this the caller no longer waits; None when it does not say.
        codecs: how tensors travel; those not named travel as they are.
        giving_up: says so when the caller no longer waits.
    """

    model: str
    request: str
    tensors: Mapping[str, Array]
    outputs: tuple[str, ...] = ()
    identity: str = ""
    time_left_s: float | None = None
    codecs: Mapping[str, str] = field(default_factory=dict)
    giving_up: GivingUp | None = None


@dataclass(frozen=True)
class ModelAnswer:
    """The answer of a named model; ``codecs`` as in `ModelRequest`."""

    model: str
    request: str
    tensors: Mapping[str, Array]
    report: Report = field(default_factory=Report)
    codecs: Mapping[str, str] = field(default_factory=dict)


class Models(Protocol):
    """Models that requests can be made to."""

    @property
    def pace(self) -> Pace:
        """How fast tensors are encoded and decoded."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every model."""

    @property
    def calls_under_way(self) -> int:
        """Calls that are being carried out."""

    def signature(self, model: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs of a model.

        Raises:
            CallFailedError: there is no such model.
        """

    def answer(self, request: ModelRequest) -> ModelAnswer:
        """Execute a model once; raises as `HostedModels.answer`."""


class HostedModels:
    """The models of one host: its segments, which keep nothing, and its calls, which do."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._plan = executor.plan
        self._slots = threading.BoundedSemaphore(MAX_CALLS_AT_ONCE)

    @property
    def pace(self) -> Pace:
        """How fast this host encodes and decodes tensors."""
        return Pace(self._plan.entry.slowdown, self._plan.entry.threads)

    @property
    def calls_under_way(self) -> int:
        """Calls that are being carried out."""
        return self.executor.held.calls_under_way

    @property
    def names(self) -> tuple[str, ...]:
        """Every model of this host."""
        return (*self._plan.calls, *self._plan.pushed_here, *self._plan.entry.artefacts)

    def platform(self, model: str) -> str:
        """What a model runs on: ``partc``, or for a segment with an engine what it really is."""
        use = self.executor.segments.engines.uses.get(model)
        if use is None:
            return "partc"
        return f"partc {use.kind}: {use.detail}" + (f" ({use.reason})" if use.reason else "")

    def signature(self, model: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs of a model.

        Raises:
            CallFailedError: this host has no such model.
        """
        if model in self._plan.calls:
            call = self._plan.calls[model]
            return self._plan.specs(call.inputs), self._plan.specs(call.outputs)
        if model in self._plan.pushed_here:
            return self._plan.specs(list(self._plan.pushed_here[model].tensors)), []
        if model in self._plan.entry.artefacts:
            segment = self._plan.segments[model]
            return self._plan.specs(segment.inputs), self._plan.specs(segment.outputs)
        sentence = unknown_name(f"model on host {self._plan.host!r}", shortened(model), self.names)
        raise CallFailedError(FailureKind.OTHER_BUNDLE, sentence)

    def answer(self, request: ModelRequest) -> ModelAnswer:
        """Execute a model once.

        Raises:
            RequestError: the request is malformed.
            CallFailedError: unknown model, another bundle, lost state, or no room.
            PartcError: the model failed.
        """
        inputs, outputs = self.signature(request.model)
        if request.identity and request.identity != self._plan.identity:
            raise CallFailedError(
                FailureKind.OTHER_BUNDLE,
                f"host {self._plan.host!r} serves another bundle than the caller's; "
                "copy the same bundle to every host",
            )
        if len(request.request) > MAX_REQUEST_ID_LENGTH:
            raise RequestError(f"the request id is longer than {MAX_REQUEST_ID_LENGTH} characters")
        tensors = checked_tensors(request.tensors, inputs)
        wanted = _wanted(request.outputs, outputs)
        if request.model in self._plan.pushed_here:
            self._take_push(request, tensors)
            return ModelAnswer(request.model, request.request, {})
        with self._slot():
            return self._answer(request, tensors, wanted)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(blocking=False):
            raise CallFailedError(
                FailureKind.BUSY, f"it carries out {MAX_CALLS_AT_ONCE} calls already"
            )
        try:
            yield
        finally:
            self._slots.release()

    def _answer(
        self, request: ModelRequest, tensors: dict[str, Array], wanted: tuple[str, ...]
    ) -> ModelAnswer:
        codecs: Mapping[str, str] = {}
        if request.model in self._plan.calls:
            if request.identity:  # Of partc hosts alone: others expect plain tensors.
                codecs = self._plan.codecs_back(request.model)
            reply = self.executor.handle(
                request.model,
                self._request_id(request),
                tensors,
                request.time_left_s,
                request.giving_up,
            )
            found, report = reply.tensors, reply.report
        else:
            report = Report()
            segment = self._plan.segments[request.model]
            found = self.executor.run_segment(segment, tensors, report)
        answers = {name: found[name] for name in wanted}
        return ModelAnswer(request.model, request.request, answers, report, codecs)

    def _take_push(self, request: ModelRequest, tensors: Mapping[str, Array]) -> None:
        if not request.request:
            raise RequestError(
                f"push {request.model!r} belongs to a request; give the request's id"
            )
        self.executor.held.push(request.request, tensors)

    def _request_id(self, request: ModelRequest) -> str:
        if request.request:
            return request.request
        if not self._plan.is_alone(request.model):
            raise RequestError(
                f"call {request.model!r} shares tensors with other calls of its request; "
                "give the request an id"
            )
        return uuid.uuid4().hex


def explain(error: Exception) -> tuple[FailureKind, str]:
    """The kind of a failure, and one sentence for the caller."""
    if isinstance(error, CallFailedError):
        return error.kind, error.reason
    if isinstance(error, RequestError) and not isinstance(error, HostUnreachableError):
        return FailureKind.REFUSED, str(error)
    if isinstance(error, PartcError):
        return FailureKind.ERROR, str(error)
    _log.error("a request failed unexpectedly", exc_info=error)
    return FailureKind.ERROR, f"the host failed unexpectedly: {type(error).__name__}: {error}"


def blamed(error: Exception) -> str:
    """The host whose fault a failure is, where it is neither the answering one's nor unknown."""
    return (error.peer or "") if isinstance(error, CallFailedError) else ""


def _wanted(requested: tuple[str, ...], outputs: list[TensorSpec]) -> tuple[str, ...]:
    known = tuple(spec.name for spec in outputs)
    for name in requested:
        if name not in known:
            raise RequestError(unknown_name("output", shortened(name), known))
    return tuple(dict.fromkeys(requested)) or known
