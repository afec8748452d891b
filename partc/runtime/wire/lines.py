"""Lines to one host: connections kept open, each for one request at a time. See `frames`."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from partc.ir.address import split_address
from partc.runtime.credentials import Credentials
from partc.runtime.transport import CallFailedError, FailureKind
from partc.runtime.wire import frames
from partc.runtime.wire.security import NOT_ITS_TOKEN, client_context

MAX_IDLE_LINES = 16
"""Kept open to each host: a line takes a thread there, and a new one a round trip."""

LONGEST_CONNECT_S = 20.0
_LAST_WORD_S = 1.0


class NoLinesError(Exception):
    """Who answers there speaks something else.

    Attributes:
        is_certain: otherwise the connection was closed without a word.
    """

    def __init__(self, is_certain: bool) -> None:
        super().__init__("it has no lines")
        self.is_certain = is_certain


@dataclass(frozen=True)
class Sent:
    """A message under way, in pieces. One of both functions is called once, in a line's thread.

    Attributes:
        is_quiet: it is answered, with nothing, as soon as it is on its way.
        failed: with a `CallFailedError`, or a `NoLinesError` if nothing was sent yet.
    """

    message: Sequence[frames.Buffer]
    time_left_s: float
    answered: Callable[[memoryview | None], None]
    failed: Callable[[CallFailedError | NoLinesError], None]
    is_quiet: bool = False


class Lines:
    """Lines to one host, made when needed.

    Args:
        address: ``HOST:PORT``.
        credentials: for the connection, where they cover it.
    """

    def __init__(
        self, address: str, max_message_bytes: int, credentials: Credentials | None
    ) -> None:
        self.address = address
        self.max_message_bytes = max_message_bytes
        covers = credentials is not None and credentials.covers(address)
        self._credentials = credentials if covers else None
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._is_closed = False

    def start(self, sent: Sent) -> Callable[[], None]:
        """Send a message without waiting; what is returned hangs up."""
        if (size_bytes := frames.size_bytes(sent.message)) > frames.LARGEST_MESSAGE_BYTES:
            reason = f"a message of {size_bytes} bytes is larger than a line carries"
            sent.failed(CallFailedError(FailureKind.BUSY, reason))
            return lambda: None
        line = self._free_line() or _Line(self)
        line.send(sent)
        return line.close

    def open_one(self, timeout_s: float) -> None:
        """Have a line ready for the first request, if that is possible."""
        with self._lock:
            if self._idle or self._is_closed:
                return
        _Line(self).open(timeout_s)

    def close(self) -> None:
        """Hang up all lines that carry nothing."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def connected(self, timeout_s: float) -> socket.socket:
        """A new connection, greeted and welcomed.

        Raises:
            OSError: it cannot be made.
            CallFailedError: it is refused.
            NoLinesError: the other end speaks no lines.
        """
        connection = socket.create_connection(split_address(self.address), timeout_s)
        try:
            frames.prepare(connection)
            if self._credentials is not None:
                connection = self._secured(connection, self._credentials)
            token = None if self._credentials is None else self._credentials.token
            connection.sendall(frames.greeting(token))
            self._take_welcome(connection)
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return connection

    def has_finished(self, line: _Line) -> None:
        """Keep a line for the next request."""
        with self._lock:
            if not self._is_closed and len(self._idle) < MAX_IDLE_LINES:
                self._idle.append(line)
                return
        line.close()

    def _free_line(self) -> _Line | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                line = self._idle.pop()
            if line.is_whole():
                return line
            line.close()

    def _secured(self, connection: socket.socket, credentials: Credentials) -> socket.socket:
        if self._context is None:
            context = client_context(credentials)
            context.set_alpn_protocols([frames.PROTOCOL])
            self._context = context
        name, _ = split_address(self.address)
        secured = self._context.wrap_socket(connection, server_hostname=name)
        if secured.selected_alpn_protocol() != frames.PROTOCOL:
            secured.close()
            raise NoLinesError(is_certain=True)
        return secured

    def _take_welcome(self, connection: socket.socket) -> None:
        try:
            word = bytes(frames.read_exactly(connection, 1))
        except (frames.LineClosedError, ConnectionResetError) as error:
            raise NoLinesError(is_certain=False) from error
        if word == frames.NOT_KNOWN:
            raise CallFailedError(FailureKind.UNREACHABLE, NOT_ITS_TOKEN)
        if word == frames.FULL:
            raise CallFailedError(FailureKind.BUSY, "it has too many connections")
        if word != frames.WELCOME:
            raise NoLinesError(is_certain=True)


class _Line:
    """One connection, and the thread that reads from it."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._lock = threading.Lock()
        self._is_closed = False
        self._connection: socket.socket | None = None
        self._outbox: SimpleQueue[tuple[Sent | None, int, float] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="partc-line", daemon=True).start()

    def open(self, timeout_s: float) -> None:
        """Connect, and be idle."""
        self._outbox.put((None, 0, timeout_s))

    def send(self, sent: Sent) -> None:
        """Send a message; what does not go at once is left to the line's thread.

        With TLS all is: one thread at a time may use such a connection.
        """
        gone = 0
        if self._connection is not None and not isinstance(self._connection, ssl.SSLSocket):
            # What fails here fails again in the thread, which then says so.
            with contextlib.suppress(OSError):
                gone = frames.send_some(self._connection, sent.message, sent.is_quiet)
            if sent.is_quiet and gone == frames.framed_bytes(sent.message):
                self._lines.has_finished(self)
                sent.answered(None)
                return
        self._outbox.put((sent, gone, sent.time_left_s))

    def is_whole(self) -> bool:
        """Whether the other end has kept the connection; it says nothing unasked."""
        if self._connection is None:
            return False
        poll = select.poll()
        try:
            poll.register(self._connection, select.POLLIN)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Hang up; what is under way fails."""
        with self._lock:
            self._is_closed = True
            connection = self._connection
        if connection is not None:
            frames.hang_up(connection)
        self._outbox.put(None)

    def _work(self) -> None:
        while (item := self._outbox.get()) is not None:
            sent, gone, timeout_s = item
            try:
                self._connect(timeout_s)
                answer = None if sent is None else self._exchange(sent, gone)
            except Exception as error:
                self._hang_up()
                if sent is not None:
                    sent.failed(self._failure(error))
                return
            self._lines.has_finished(self)
            if sent is not None:
                sent.answered(answer)
        self._hang_up()

    def _connect(self, timeout_s: float) -> None:
        if self._connection is not None:
            return
        connection = self._lines.connected(max(0.001, min(timeout_s, LONGEST_CONNECT_S)))
        with self._lock:
            self._connection = connection
            if self._is_closed:
                raise frames.LineClosedError("the caller hung up")

    def _exchange(self, sent: Sent, gone: int) -> memoryview | None:
        assert self._connection is not None
        try:
            frames.write_message(self._connection, sent.message, gone, sent.is_quiet)
            if sent.is_quiet:
                return None
        except OSError:
            # It may have hung up on a message that it refuses, and have said so.
            self._connection.settimeout(_LAST_WORD_S)
        reader, is_quiet = frames.Reader(self._connection), True
        while is_quiet:  # the refusal of something that nobody waits for any more
            answer, is_quiet = reader.message(self._lines.max_message_bytes)
        if reader.has_more:
            raise frames.FrameError("it sent more than one message at once")
        return answer

    def _hang_up(self) -> None:
        with self._lock:
            self._is_closed = True
            connection = self._connection
        if connection is not None:
            frames.hang_up(connection)
            connection.close()

    def _failure(self, error: Exception) -> CallFailedError | NoLinesError:
        address = self._lines.address
        if isinstance(error, CallFailedError | NoLinesError):
            return error
        if isinstance(error, frames.FrameError):
            return CallFailedError(FailureKind.ERROR, f"its answer is malformed: {error}")
        if isinstance(error, TimeoutError):
            return CallFailedError(FailureKind.DEADLINE, f"{address} did not answer in time")
        if isinstance(error, frames.LineClosedError | OSError):
            return CallFailedError(FailureKind.UNREACHABLE, f"{address} cannot be reached")
        return CallFailedError(FailureKind.ERROR, f"{type(error).__name__}: {error}")
