"""Calls to an agent."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from partc.agent.messages import (
    CHUNK_BYTES,
    LARGEST_MESSAGE_BYTES,
    PROTOCOL,
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
    printable,
)
from partc.agent.wire.service import SERVICE
from partc.errors import RequestError, TargetError, UsageError
from partc.ir.address import is_loopback, split_address
from partc.runtime.credentials import Credentials
from partc.runtime.wire.security import open_channel, why_unreachable
from partc.targets.engines import Progress

CONNECT_S = 10.0
ANSWER_S = 60.0
SILENCE_S = 30.0
"""An agent says every second that it still measures; so long a silence means that it is gone."""

_CANCEL_POLL_S = 0.5
_MOST_REFUSED = 4
_MOST_WAITING = 16
_DRAIN_S = 0.02

Answer = TypeVar("Answer", bound=Message)
Source = bytes | Path


class AgentBusyError(TargetError):
    """The agent does something that must not be disturbed."""


class UnreachableError(TargetError):
    """Nobody answers at the agent's address."""


class AgentClient:
    """A connection to one agent; a context manager. All errors name the agent, in a sentence.

    Args:
        host: of the topology, for sentences; may be empty.

    Raises:
        UsageError: another machine is to be called without credentials.
    """

    def __init__(self, address: str, credentials: Credentials | None, host: str = "") -> None:
        self.address = address
        self.host = host
        self.name = (
            f"the agent of host {host!r} at {address}" if host else f"the agent at {address}"
        )
        self._credentials = credentials
        if credentials is None and not is_loopback(address):
            raise UsageError(
                f"{self.name} is on another machine, which needs credentials; copy those that "
                "partc agent --init made there and name their folder with --credentials"
            )
        self._channel = open_channel(address, LARGEST_MESSAGE_BYTES, credentials)
        self._is_connected = False
        self._channel.subscribe(self._watch)
        self._known: set[str] = set()

    def describe(self) -> NodeDescription:
        """The node, now.

        Raises:
            TargetError: it cannot be reached, or is of another version.
        """
        try:
            found = self._ask("Describe", Empty(), NodeDescription, wait_for_ready=False)
        except UnreachableError:
            if not self._listens():
                raise
            # On a busy machine the first handshake may take longer than gRPC allows it.
            found = self._ask("Describe", Empty(), NodeDescription, timeout_s=CONNECT_S)
        if found.protocol != PROTOCOL:
            raise TargetError(
                f"{self.name} is of partc {printable(found.partc_version, 40)}, which this one "
                "does not understand; install the same version on both machines"
            )
        return found

    def terms(self) -> Terms:
        """What the node does with the bytes of messages."""
        return self._ask("Terms", Empty(), Terms)

    def send(self, pieces: Mapping[str, Source]) -> int:
        """Send files that the agent does not have; how many bytes that were.

        Args:
            pieces: SHA-256 -> contents, or where they are.
        """
        unknown = [digest for digest in pieces if digest not in self._known]
        missing = self._ask("Missing", Digests(digests=unknown), Digests).digests if unknown else []
        sent_bytes = 0
        for digest in missing:
            if digest not in pieces:
                raise self._nonsense("it asks for a file that nobody spoke of")
            sent_bytes += self._put(digest, pieces[digest])
        self._known.update(unknown)
        return sent_bytes

    def forget_sent(self) -> None:
        """The agent may have dropped files since: ask again what is missing."""
        self._known.clear()

    def measure(self, job: Job, progress: Progress | None = None) -> JobEvent:
        """Carry out a job there.

        Args:
            progress: told what a builder is at, and the fraction done.

        Raises:
            AgentBusyError: it measures for somebody else, or serves requests.
            TargetError: it ended, or refuses.
        """
        for event in self._events("Measure", job, JobEvent):
            if event.state == "done":
                return event
            if progress is not None and event.phase:
                progress(printable(event.phase, 80), event.fraction)
        raise self._ended("Measure")

    def fetch(self, digest: str, size_bytes: int, output: Path) -> None:
        """Write a file that the agent has made to ``output``.

        Raises:
            TargetError: what came is not the file that was announced.
            OSError: it cannot be written.
        """
        found = hashlib.sha256()
        received_bytes = 0
        try:
            with output.open("wb") as file:
                for chunk in self._chunks("Fetch", FileName(sha256=digest)):
                    received_bytes += len(chunk)
                    if received_bytes > size_bytes:
                        break
                    found.update(chunk)
                    file.write(chunk)
            if received_bytes != size_bytes or found.hexdigest() != digest:
                raise self._nonsense(
                    f"the file that it sent is not the one of {size_bytes} bytes that it announced"
                )
        except BaseException:
            output.unlink(missing_ok=True)
            raise

    def offer(self, offer: Offer) -> OfferAnswer:
        """Ask what is missing of a bundle."""
        return self._ask("Offer", offer, OfferAnswer)

    def prepare(self, bundle: BundleId) -> list[str]:
        """Have an offered bundle loaded; sentences for the user."""
        for event in self._events("Prepare", bundle, PrepareEvent):
            if event.state == "done":
                return [printable(sentence) for sentence in event.said]
        raise self._ended("Prepare")

    def activate(self, bundle: BundleId) -> None:
        """Have a prepared bundle served."""
        self._ask("Activate", bundle, Empty)

    def measure_link(self, request: LinkRequest) -> dict[str, Any]:
        """Have the link to another agent measured."""
        for event in self._events("MeasureLink", request, LinkEvent):
            if event.state == "done" and event.found is not None:
                return event.found
        raise self._ended("MeasureLink")

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def _ask(
        self,
        method: str,
        message: Message,
        kind: type[Answer],
        wait_for_ready: bool = True,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        call = self._channel.unary_unary(f"/{SERVICE}/{method}")
        future = call.future(
            message.to_bytes(),
            timeout=timeout_s,
            wait_for_ready=wait_for_ready,
        )
        try:
            return kind.read(self._awaited(future, method))
        except grpc.RpcError as error:
            raise self._explained(error, method) from error
        except RequestError as error:
            raise self._nonsense(str(error)) from error
        finally:
            future.cancel()

    def _events(self, method: str, message: Message, kind: type[Answer]) -> Iterator[Answer]:
        for data in self._chunks(method, message):
            try:
                yield kind.read(data)
            except RequestError as error:
                raise self._nonsense(str(error)) from error

    def _chunks(self, method: str, message: Message) -> Iterator[bytes]:
        call = self._channel.unary_stream(f"/{SERVICE}/{method}")(message.to_bytes())
        arrived: queue.Queue[bytes | Exception | None] = queue.Queue(_MOST_WAITING)
        reader = threading.Thread(target=_read, args=(call, arrived), daemon=True)
        reader.start()
        try:
            while (event := _next(arrived)) is not None:
                if isinstance(event, grpc.RpcError):
                    raise self._explained(event, method) from event
                if isinstance(event, Exception):
                    raise self._ended(method) from event
                yield event
        except queue.Empty:
            raise TargetError(
                f"{self.name} has said nothing for {SILENCE_S:.0f} s and is taken to be gone; what "
                "was measured before is kept"
            ) from None
        finally:
            call.cancel()
            while reader.is_alive():  # it may wait for room
                with contextlib.suppress(queue.Empty):
                    arrived.get(timeout=_DRAIN_S)

    def _put(self, digest: str, source: Source) -> int:
        size_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        header = FileHeader(sha256=digest, size_bytes=size_bytes)
        pieces = _Pieces(header, source)
        future = self._channel.stream_unary(f"/{SERVICE}/Put").future(pieces, wait_for_ready=True)
        try:
            self._awaited(future, "Put", pieces)
        except grpc.RpcError as error:
            raise self._explained(error, "Put") from error
        finally:
            future.cancel()
        return size_bytes

    def _awaited(self, future: Any, method: str, pieces: _Pieces | None = None) -> bytes:
        """Wait in steps, so that Ctrl-C is noticed, and so is an agent that has gone."""
        refused = 0
        while True:
            try:
                answer: bytes = future.result(timeout=_CANCEL_POLL_S)
                return answer
            except grpc.FutureTimeoutError:
                pass
            refused = 0 if self._is_connected or self._listens() else refused + 1
            if refused >= _MOST_REFUSED:
                raise self._gone(method)
            if pieces is not None and time.monotonic() - pieces.taken_at_s > ANSWER_S:
                raise TargetError(
                    f"{self.name} has taken nothing of a file for {ANSWER_S:.0f} s; see whether "
                    "the link is up, and repeat the command",
                    host=self.host or None,
                )

    def _watch(self, state: grpc.ChannelConnectivity) -> None:
        self._is_connected = state is grpc.ChannelConnectivity.READY

    def _gone(self, method: str) -> TargetError:
        if method in ("Measure", "Prepare", "MeasureLink", "Fetch", "Put"):
            return self._ended(method)
        return UnreachableError(
            f"{self.name} cannot be reached; start it there with partc agent --listen ADDRESS",
            host=self.host or None,
        )

    def _explained(self, error: Any, method: str) -> TargetError:
        code, details = error.code(), printable(str(error.details() or ""))
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "busy" in details:
            return AgentBusyError(f"{self.name}: {details}", host=self.host or None)
        if code is grpc.StatusCode.UNAVAILABLE:
            why = why_unreachable(self.address, self._credentials)
            if why is not None:
                return TargetError(f"{self.name} cannot be asked: {why}", host=self.host or None)
            return self._gone(method)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return TargetError(
                f"{self.address} is no partc agent; start one with partc agent --listen ADDRESS",
                host=self.host or None,
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TargetError(f"{self.name} did not answer in time", host=self.host or None)
        return TargetError(f"{self.name}: {details}", host=self.host or None)

    def _ended(self, method: str) -> TargetError:
        doing = {
            "Measure": "measured",
            "Prepare": "loaded the bundle",
            "Put": "took a file",
        }.get(method, "worked")
        return TargetError(
            f"{self.name} ended while it {doing}; start it again and repeat the command, what was "
            "measured before is kept",
            host=self.host or None,
        )

    def _listens(self) -> bool:
        try:
            with socket.create_connection(split_address(self.address), CONNECT_S):
                return True
        except OSError:
            return False

    def _nonsense(self, what: str) -> TargetError:
        return TargetError(
            f"{self.name} gives no usable answer: {what}; install the same version of partc on "
            "both machines",
            host=self.host or None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _read(call: Any, arrived: queue.Queue[bytes | Exception | None]) -> None:
    try:
        for message in call:
            arrived.put(message)
    except Exception as error:
        arrived.put(error)
    else:
        arrived.put(None)


def _next(arrived: queue.Queue[bytes | Exception | None]) -> bytes | Exception | None:
    return arrived.get(timeout=SILENCE_S)


class _Pieces:
    """A file as messages, and when the last of them was taken."""

    def __init__(self, header: FileHeader, source: Source) -> None:
        self._pieces = _chunks(header, source)
        self.taken_at_s = time.monotonic()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        self.taken_at_s = time.monotonic()
        return next(self._pieces)


def _chunks(header: FileHeader, source: Source) -> Iterator[bytes]:
    yield header.to_bytes()
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_BYTES):
            yield source[start : start + CHUNK_BYTES]
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
