"""Calls to other hosts: over lines, or by streams or unary calls of gRPC where it has none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from partc.runtime.credentials import Credentials
from partc.runtime.models import ModelAnswer, ModelRequest
from partc.runtime.pacing import NATIVE, Pace
from partc.runtime.transport import (
    CallFailedError,
    CallReply,
    CallRequest,
    FailureKind,
    PendingCall,
    Report,
)
from partc.runtime.wire.frames import Buffer, size_bytes
from partc.runtime.wire.lines import Lines, NoLinesError, Sent
from partc.runtime.wire.messages import decode_answer, decode_stream_answer, request_pieces
from partc.runtime.wire.security import open_channel, why_unreachable

SERVICE = "inference.GRPCInferenceService"

MAX_IDLE_STREAMS = 16
"""Kept open to each host: a stream takes a thread there, and a new one a round trip."""

_KIND_OF_STATUS = {
    grpc.StatusCode.UNAVAILABLE: FailureKind.UNREACHABLE,
    grpc.StatusCode.CANCELLED: FailureKind.UNREACHABLE,
    grpc.StatusCode.UNAUTHENTICATED: FailureKind.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.DEADLINE,
    grpc.StatusCode.INVALID_ARGUMENT: FailureKind.REFUSED,
    grpc.StatusCode.FAILED_PRECONDITION: FailureKind.LOST_STATE,
    grpc.StatusCode.ABORTED: FailureKind.PEER,
    grpc.StatusCode.NOT_FOUND: FailureKind.OTHER_BUNDLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: FailureKind.BUSY,
}


class GrpcTransport:
    """Calls hosts by their addresses. Connections are made when first needed, and made again.

    Args:
        addresses: host -> ``HOST:PORT``.
        prefer_lines: False leaves it all to gRPC.
        prefer_stream: False sends every call of gRPC by itself, as a unary call.
        credentials: for the connections that they cover; others are open.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        *,
        max_message_bytes: int,
        prefer_lines: bool = True,
        prefer_stream: bool = True,
        pace: Pace = NATIVE,
        credentials: Credentials | None = None,
    ) -> None:
        self._peers = {
            host: _Peer(address, max_message_bytes, prefer_lines, prefer_stream, pace, credentials)
            for host, address in addresses.items()
        }

    def start(self, host: str, request: CallRequest) -> PendingCall:
        """Send a call without waiting for its answer."""
        return self._peers[host].start(request)

    def probe(self, host: str, timeout_s: float, *, patient: bool = True) -> str | None:
        """None when ``host`` is ready, otherwise a clause that says why not."""
        return self._peers[host].probe(timeout_s, patient)

    def close(self) -> None:
        """Drop all connections."""
        for peer in self._peers.values():
            peer.close()


class _Peer:
    def __init__(
        self,
        address: str,
        max_message_bytes: int,
        prefer_lines: bool,
        prefer_stream: bool,
        pace: Pace,
        credentials: Credentials | None,
    ) -> None:
        self._address = address
        self._has_lines = prefer_lines
        self._lines = Lines(address, max_message_bytes, credentials)
        self._credentials = credentials
        self.pace = pace
        self._channel = open_channel(address, max_message_bytes, credentials)
        # Messages pass gRPC as they are; `messages` makes and reads them without extra copies.
        self._unary = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._stream = self._channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._has_stream = prefer_stream
        self._lock = threading.Lock()
        self._idle: list[_Stream] = []

    def start(self, request: CallRequest) -> PendingCall:
        message = request_pieces(
            ModelRequest(
                model=request.call,
                request=request.request,
                tensors=request.tensors,
                identity=request.identity,
                time_left_s=request.time_left_s,
                codecs=request.codecs,
            ),
            self.pace,
        )
        future: Future[CallReply] = Future()
        if self._has_lines:
            return self._start_on_line(message, request, future)
        return PendingCall(
            future, self._start_by_grpc(b"".join(message), request.time_left_s, future)
        )

    def probe(self, timeout_s: float, patient: bool) -> str | None:
        try:
            answer = self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=patient
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None  # No health service; what answers is taken to be well.
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                disagreement = why_unreachable(self._address, self._credentials)
                return disagreement or _reason(error, self._address)
            return _reason(error, self._address)
        except ValueError:
            return "the connection was closed"
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            return f"{self._address} is not ready to serve"
        if self._has_lines:
            self._lines.open_one(timeout_s)
        return None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for stream in idle:
            stream.close()
        self._lines.close()
        self._channel.close()

    def _start_on_line(
        self, message: Sequence[Buffer], request: CallRequest, future: Future[CallReply]
    ) -> PendingCall:
        abandon = _Abandon()
        time_left_s = request.time_left_s
        sent_bytes = size_bytes(message)

        def answered(answer: memoryview | None) -> None:
            if answer is None:
                future.set_result(CallReply({}, Report(), sent_bytes, 0))
            else:
                self.deliver(sent_bytes, answer, future)

        def failed(error: CallFailedError | NoLinesError) -> None:
            if isinstance(error, CallFailedError):
                future.set_exception(error)
                return
            if error.is_certain:
                self._has_lines = False
            abandon.by(self._start_by_grpc(b"".join(message), time_left_s, future))

        abandon.first_by(
            self._lines.start(Sent(message, time_left_s, answered, failed, request.is_push))
        )
        return PendingCall(future, abandon)

    def _start_by_grpc(
        self, message: bytes, time_left_s: float, future: Future[CallReply]
    ) -> Callable[[], None]:
        if not self._has_stream:
            return self._start_unary(message, time_left_s, future)
        with self._lock:
            stream = self._idle.pop() if self._idle else None
        if stream is None:
            stream = _Stream(self._stream, self)
        stream.send(message, future, time_left_s)
        return stream.close

    def deliver(
        self, sent_bytes: int, answer: bytes | memoryview, future: Future[CallReply]
    ) -> None:
        try:
            found = decode_stream_answer(memoryview(answer), self.pace)
        except CallFailedError as error:
            future.set_exception(error)
        else:
            future.set_result(_reply(found, sent_bytes, len(answer)))

    def _start_unary(
        self, message: bytes, time_left_s: float, future: Future[CallReply]
    ) -> Callable[[], None]:
        call = self._unary.future(message, timeout=time_left_s)

        def done(finished: Any) -> None:
            try:
                answer = finished.result()
                reply = _reply(decode_answer(answer, self.pace), len(message), len(answer))
            except CallFailedError as error:
                future.set_exception(error)
            except Exception as error:
                future.set_exception(_failure(error, self._address))
            else:
                future.set_result(reply)

        call.add_done_callback(done)
        cancel: Callable[[], None] = call.cancel
        return cancel

    def stream_is_idle(self, stream: _Stream) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE_STREAMS:
                self._idle.append(stream)
                return
        stream.close()

    def stream_ended(
        self, stream: _Stream, sent: tuple[bytes, Future[CallReply], float] | None, error: Any
    ) -> None:
        with self._lock:
            if stream in self._idle:
                self._idle.remove(stream)
        if sent is None:
            return
        message, future, time_left_s = sent
        code = error.code() if isinstance(error, grpc.RpcError) else None
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self._has_stream = False
            self._start_unary(message, time_left_s, future)
        else:
            future.set_exception(_failure(error, self._address))


class _Stream:
    """One ModelStreamInfer call, which carries one request at a time."""

    def __init__(self, method: Any, peer: _Peer) -> None:
        self._peer = peer
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._sent: tuple[bytes, Future[CallReply], float] | None = None
        self._ended: Any = None
        self._rpc = method(iter(self._outbox.get, None))
        threading.Thread(target=self._read, name="partc-stream", daemon=True).start()

    def send(self, message: bytes, future: Future[CallReply], time_left_s: float) -> None:
        sent = (message, future, time_left_s)
        with self._lock:
            if self._ended is None:
                self._sent = sent
                self._outbox.put(message)
                return
        self._peer.stream_ended(self, sent, self._ended)

    def close(self) -> None:
        self._outbox.put(None)
        self._rpc.cancel()

    def _read(self) -> None:
        error: Any
        try:
            for message in self._rpc:
                self._deliver(message)
            error = CallFailedError(FailureKind.UNREACHABLE, "it closed the connection")
        except Exception as caught:
            error = caught
        self._outbox.put(None)
        with self._lock:
            self._ended = error
            sent, self._sent = self._sent, None
        self._peer.stream_ended(self, sent, error)

    def _deliver(self, message: bytes) -> None:
        with self._lock:
            sent, self._sent = self._sent, None
        if sent is None:
            raise CallFailedError(FailureKind.ERROR, "it answered without having been asked")
        request, future, _ = sent
        self._peer.stream_is_idle(self)
        self._peer.deliver(len(request), message, future)


class _Abandon:
    """Gives a call up, by whatever it goes now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_called = False
        self._way: Callable[[], None] | None = None

    def by(self, way: Callable[[], None]) -> None:
        """What gives it up from now on; it is done at once where that was asked before."""
        with self._lock:
            self._way = way
            if not self._is_called:
                return
        way()

    def first_by(self, way: Callable[[], None]) -> None:
        """As `by`, unless there is another way already."""
        with self._lock:
            if self._way is not None:
                return
            self._way = way
            if not self._is_called:
                return
        way()

    def __call__(self) -> None:
        with self._lock:
            self._is_called = True
            way = self._way
        if way is not None:
            way()


def _reply(answer: ModelAnswer, sent_bytes: int, received_bytes: int) -> CallReply:
    return CallReply(answer.tensors, answer.report, sent_bytes, received_bytes)


def _failure(error: Any, address: str) -> CallFailedError:
    if isinstance(error, CallFailedError):
        return error
    code = error.code() if isinstance(error, grpc.RpcError) else None
    kind = _KIND_OF_STATUS.get(code, FailureKind.ERROR)
    return CallFailedError(kind, _reason(error, address))


def _reason(error: Any, address: str) -> str:
    code = error.code() if isinstance(error, grpc.RpcError) else None
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"{address} cannot be reached"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} did not answer in time"
    details = error.details() if isinstance(error, grpc.RpcError) else None
    return str(details or error or type(error).__name__).strip().splitlines()[0].rstrip(".")
