"""What travels on a line: a greeting, then messages in turn, each after its length.

A line is a TCP connection of two partc hosts that carries one request at a time, as a
ModelInferRequest in one direction and a ModelStreamInferResponse in the other. gRPC passes a
message through half a dozen threads of Python on its way; a line passes it through two.

A *quiet* message, told by the highest bit of its length, is answered only if it is refused, and
quietly. Who sends one does not wait, and passes over what is said to it.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
from collections.abc import Iterator, Sequence

import numpy as np

GREETING = b"partc-line/1\n"
PROTOCOL = "partc-line/1"
"""In the handshake of TLS (ALPN)."""

WELCOME, NOT_KNOWN, FULL = b"W", b"N", b"F"

Buffer = bytes | bytearray | memoryview

LONGEST_TOKEN_BYTES = 4096
_SHORT_BYTES = 64 << 10
_MOST_PIECES_AT_ONCE = 512  # of 1,024 that systems take
_TAKEN_ON_TRUST_BYTES = 4 << 20
"""What four bytes may claim before anything has come."""

LARGEST_MESSAGE_BYTES = (1 << 31) - 1
_QUIET = 1 << 31
_LENGTH = struct.Struct("!I")
_TOKEN_LENGTH = struct.Struct("!H")
_SCRATCH_BYTES = 64 << 10
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 20, 20, 3


class LineClosedError(Exception):
    """The other end closed the connection, between messages or within one."""


class FrameError(Exception):
    """The other end sent what no line carries. ``size_bytes`` is set for what is too large."""

    def __init__(self, reason: str, size_bytes: int | None = None) -> None:
        super().__init__(reason)
        self.size_bytes = size_bytes


def prepare(connection: socket.socket) -> None:
    """Send small messages at once, and notice that the other machine is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
    ):
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def hang_up(connection: socket.socket) -> None:
    """End a connection, and wake who reads from it or writes to it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def greeting(token: str | None) -> bytes:
    """What the caller sends first."""
    shown = (token or "").encode()
    return GREETING + _TOKEN_LENGTH.pack(len(shown)) + shown


def is_greeted(connection: socket.socket, token: str | None) -> bool:
    """Read a greeting: whether it shows the token that is asked for, if one is.

    Raises:
        FrameError: it is no greeting.
    """
    start = read_exactly(connection, len(GREETING) + _TOKEN_LENGTH.size)
    if start[: len(GREETING)] != GREETING:
        raise FrameError("it does not begin as a line does")
    (length,) = _TOKEN_LENGTH.unpack(start[len(GREETING) :])
    if length > LONGEST_TOKEN_BYTES:
        raise FrameError("its token is too long")
    shown = read_exactly(connection, length)
    return token is None or hmac.compare_digest(bytes(shown), token.encode())


def size_bytes(message: Sequence[Buffer]) -> int:
    """Of a message in pieces."""
    return sum(map(len, message))


def framed_bytes(message: Sequence[Buffer]) -> int:
    """The same with what stands before it."""
    return _LENGTH.size + size_bytes(message)


def framed(message: Sequence[Buffer], is_quiet: bool = False) -> list[Buffer]:
    """A message in pieces, with what stands before it."""
    return [_LENGTH.pack(size_bytes(message) | (_QUIET if is_quiet else 0)), *message]


def write_message(
    connection: socket.socket, message: Sequence[Buffer], gone: int = 0, is_quiet: bool = False
) -> None:
    """Send a message with its header, less the bytes of both that are ``gone`` already."""
    for run in _runs(framed(message, is_quiet)):
        connection.sendall(run[gone:])
        gone = max(0, gone - len(run))


def send_some(connection: socket.socket, message: Sequence[Buffer], is_quiet: bool) -> int:
    """Send what goes at once of a message and its header: how many bytes did.

    Raises:
        OSError: nothing goes at once.
    """
    parts = framed(message, is_quiet)
    return connection.sendmsg(parts[:_MOST_PIECES_AT_ONCE], [], socket.MSG_DONTWAIT)


def _runs(parts: Sequence[Buffer]) -> Iterator[memoryview]:
    """The same bytes, with short pieces put together so that they share packets."""
    short: list[Buffer] = []
    gathered = 0
    for part in parts:
        if len(part) > _SHORT_BYTES:
            if short:
                yield memoryview(b"".join(short))
            yield memoryview(part)
            short, gathered = [], 0
            continue
        short.append(part)
        gathered += len(part)
        if gathered > _SHORT_BYTES:
            yield memoryview(b"".join(short))
            short, gathered = [], 0
    if short:
        yield memoryview(b"".join(short))


class Reader:
    """Reads the messages of one connection, several of which may arrive at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._begin = self._end = 0

    def message(self, max_bytes: int) -> tuple[memoryview, bool]:
        """The next message, and whether it is quiet.

        Raises:
            LineClosedError: the connection ended.
            FrameError: the message is larger than ``max_bytes``.
        """
        view = memoryview(self._scratch)
        if self._begin == self._end:
            self._begin = self._end = 0
        while self._end - self._begin < _LENGTH.size:
            if len(view) - self._begin < _LENGTH.size:
                self._move_to_front()
            self._end += _received(self._connection, view[self._end :])
        (said,) = _LENGTH.unpack_from(self._scratch, self._begin)
        self._begin += _LENGTH.size
        length = said & ~_QUIET
        if length > max_bytes:
            reason = f"a message of {length} bytes; at most {max_bytes} are taken"
            raise FrameError(reason, length)
        here = min(length, self._end - self._begin)
        message = _unfilled(min(length, _TAKEN_ON_TRUST_BYTES))
        message[:here] = view[self._begin : self._begin + here]
        self._begin += here
        while True:
            while here < len(message):
                here += _received(self._connection, message[here:])
            if here == length:
                return message, bool(said & _QUIET)
            # As much again as has really come.
            grown = _unfilled(min(2 * here, length))
            grown[:here] = message
            message = grown

    @property
    def has_more(self) -> bool:
        """Whether more has arrived than was asked for."""
        return self._begin < self._end

    def _move_to_front(self) -> None:
        left = self._end - self._begin
        self._scratch[:left] = self._scratch[self._begin : self._end]
        self._begin, self._end = 0, left


def read_message(connection: socket.socket, max_bytes: int) -> memoryview:
    """The one message that comes now; raises as `Reader.message`."""
    reader = Reader(connection)
    message, _ = reader.message(max_bytes)
    if reader.has_more:
        raise FrameError("it sent more than one message at once")
    return message


def read_exactly(connection: socket.socket, size_bytes: int) -> bytearray:
    """So many bytes.

    Raises:
        LineClosedError: the connection ended.
    """
    found = bytearray(size_bytes)
    view, got = memoryview(found), 0
    while got < size_bytes:
        got += _received(connection, view[got:])
    return found


def _unfilled(size_bytes: int) -> memoryview:
    """Memory that the message will fill, and that nothing fills before."""
    return np.empty(size_bytes, np.uint8).data


def _received(connection: socket.socket, view: memoryview) -> int:
    count = connection.recv_into(view)
    if not count:
        raise LineClosedError("it closed the connection")
    return count
