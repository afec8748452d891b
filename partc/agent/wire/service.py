"""The methods of the agent's service, and what each error becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc

from partc.agent.measuring import BusyError, CancelledError
from partc.agent.messages import (
    CHUNK_BYTES,
    BundleId,
    Digests,
    Empty,
    FileHeader,
    FileName,
    Job,
    JobEvent,
    LinkEvent,
    LinkRequest,
    Message,
    NodeDescription,
    Offer,
    OfferAnswer,
    PrepareEvent,
    Terms,
)
from partc.errors import PartcError, RequestError

SERVICE = "partc.Agent"

Asked = TypeVar("Asked", bound=Message)
IsWanted = Callable[[], bool]


class AgentWork(Protocol):
    """What the service offers; every method may raise a `PartcError`."""

    def describe(self) -> NodeDescription:
        """The node, now."""

    def terms(self) -> Terms:
        """What it does with the bytes of messages."""

    def missing(self, digests: Digests) -> Digests:
        """Files that were not sent yet."""

    def receive(self, header: FileHeader, next_chunk: Callable[[], bytes]) -> None:
        """Take in a file."""

    def carry_out(self, job: Job, is_wanted: IsWanted) -> Iterator[JobEvent]:
        """Measure something."""

    def engine(self, name: FileName) -> Path:
        """Where an engine lies that was built."""

    def offer(self, offer: Offer) -> OfferAnswer:
        """Look at a bundle."""

    def prepare(self, bundle: BundleId) -> Iterator[PrepareEvent]:
        """Load it."""

    def activate(self, bundle: BundleId) -> None:
        """Serve it."""

    def measure_link(self, request: LinkRequest, is_wanted: IsWanted) -> Iterator[LinkEvent]:
        """Measure the link to another agent."""


class AgentService:
    """Offers an agent's work over gRPC. Messages are JSON; files are raw bytes in chunks."""

    def __init__(self, work: AgentWork) -> None:
        self._work = work

    def handler(self) -> grpc.GenericRpcHandler:
        """For `partc.runtime.wire.server.GrpcServer`."""
        work = self._work
        methods = {
            "Describe": _plain(Empty, lambda asked: work.describe()),
            "Terms": _plain(Empty, lambda asked: work.terms()),
            "Missing": _plain(Digests, work.missing),
            "Offer": _plain(Offer, work.offer),
            "Activate": _plain(BundleId, self._activate),
            "Fetch": grpc.unary_stream_rpc_method_handler(self._fetch),
            "Put": grpc.stream_unary_rpc_method_handler(self._put),
            "Measure": _events(Job, work.carry_out),
            "Prepare": _events(BundleId, lambda asked, is_wanted: work.prepare(asked)),
            "MeasureLink": _events(LinkRequest, work.measure_link),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _activate(self, asked: BundleId) -> Empty:
        self._work.activate(asked)
        return Empty()

    def _put(self, chunks: Iterator[bytes], context: Any) -> bytes | None:
        try:
            header = FileHeader.read(next(chunks, b""))
            self._work.receive(header, lambda: next(chunks, b""))
            return Empty().to_bytes()
        except Exception as error:
            _abort(context, error)
        return None

    def _fetch(self, message: bytes, context: Any) -> Iterator[bytes]:
        try:
            with self._work.engine(FileName.read(message)).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except Exception as error:
            _abort(context, error)


def _plain(kind: type[Asked], work: Callable[[Asked], Message]) -> Any:
    def method(message: bytes, context: Any) -> bytes | None:
        try:
            return work(kind.read(message)).to_bytes()
        except Exception as error:
            _abort(context, error)
        return None

    return grpc.unary_unary_rpc_method_handler(method)


def _events(kind: type[Asked], work: Callable[[Asked, IsWanted], Iterator[Message]]) -> Any:
    def method(message: bytes, context: Any) -> Iterator[bytes]:
        try:
            for event in work(kind.read(message), context.is_active):
                yield event.to_bytes()
        except Exception as error:
            _abort(context, error)

    return grpc.unary_stream_rpc_method_handler(method)


def _abort(context: Any, error: Exception) -> None:
    """End a call with a status and a sentence."""
    if isinstance(error, BusyError):
        status = grpc.StatusCode.RESOURCE_EXHAUSTED
    elif isinstance(error, CancelledError):
        status = grpc.StatusCode.CANCELLED
    elif isinstance(error, RequestError):
        status = grpc.StatusCode.INVALID_ARGUMENT
    elif isinstance(error, PartcError):
        status = grpc.StatusCode.FAILED_PRECONDITION
    else:
        status = grpc.StatusCode.INTERNAL
    sentence = str(error) if isinstance(error, PartcError) else f"{type(error).__name__}: {error}"
    context.abort(status, sentence[:4000])
