"""Where a host listens: lines of other hosts are served, all else is passed on to gRPC."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from partc.ir.address import split_address
from partc.runtime.credentials import Credentials
from partc.runtime.transport import GivingUp
from partc.runtime.wire import frames
from partc.runtime.wire.security import server_context

Answer = Callable[[memoryview, GivingUp, bool], Sequence[frames.Buffer]]

MAX_CONNECTIONS = 512
"""Lines and connections of gRPC, which have a thread or two each; more are refused at once."""

_BACKLOG = 128
_FIRST_WORD_S = 20.0
_PEEK_PAUSE_S = 0.005
_PASSED_BYTES = 256 << 10
_LONGEST_DRAIN_S = 5.0
_NO_FILES_PAUSE_S = 0.1
_HANDSHAKE, _RECORD_HEADER_BYTES, _LARGEST_RECORD_BYTES = 0x16, 5, 1 << 14


class Door:
    """Accepts connections from construction until `close`.

    Args:
        listen: ``HOST:PORT``; port 0 takes a free one.
        inner: where gRPC listens on this machine, with the same credentials.
        answer: makes the answer to a message, in pieces; none to a quiet message that is well.
            It raises nothing.
        credentials: by which callers and this host know each other.

    Attributes:
        address: where it listens, with the port that was chosen for port 0.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        listen: str,
        inner: str,
        answer: Answer,
        *,
        refusal: Callable[[str], bytes],
        max_message_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        self._inner = split_address(inner)
        self._answer, self._refusal = answer, refusal
        self._max_message_bytes = max_message_bytes
        self._token = None if credentials is None else credentials.token
        self._context: ssl.SSLContext | None = None
        if credentials is not None:
            self._context = server_context(credentials)
            self._context.set_alpn_protocols([frames.PROTOCOL])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self._watch = _Watch()
        self._listener = _listener(listen)
        host = listen.rpartition(":")[0]
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="partc-door", daemon=True).start()

    def close(self) -> None:
        """Accept no more, and end every connection."""
        with self._lock:
            self._is_closed = True
            ended, self._open = self._open, set()
        frames.hang_up(self._listener)
        self._listener.close()
        for connection in ended:
            frames.hang_up(connection)
        self._watch.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if not self._is_closed:
                    time.sleep(_NO_FILES_PAUSE_S)
                continue
            with self._lock:
                refused = self._is_closed or len(self._open) >= MAX_CONNECTIONS
                if not refused:
                    self._open.add(connection)
            if refused:
                connection.close()
                continue
            threading.Thread(
                target=self._receive, args=(connection,), name="partc-call", daemon=True
            ).start()

    def _receive(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(
                OSError, ValueError, frames.LineClosedError, frames.FrameError
            ):
                frames.prepare(connection)
                connection.settimeout(_FIRST_WORD_S)
                if self._is_line(connection):
                    self._take_line(connection)
                else:
                    self._pass_on(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _is_line(self, connection: socket.socket) -> bool:
        if self._context is not None:
            return frames.PROTOCOL.encode() in _client_hello(connection)
        return connection.recv(1, socket.MSG_PEEK) == frames.GREETING[:1]

    def _take_line(self, connection: socket.socket) -> None:
        if self._context is None:
            self._serve_line(connection)
            return
        # The handshake may fail, and the connection is closed by who opened it.
        with self._context.wrap_socket(connection.dup(), server_side=True) as secured:
            if secured.selected_alpn_protocol() == frames.PROTOCOL:
                self._serve_line(secured)

    def _serve_line(self, line: socket.socket) -> None:
        if not frames.is_greeted(line, self._token):
            line.sendall(frames.NOT_KNOWN)
            return
        line.sendall(frames.WELCOME)
        line.settimeout(None)
        with self._watch.over(line) as caller:
            reader = frames.Reader(line)
            while True:
                try:
                    message, is_quiet = reader.message(self._max_message_bytes)
                except frames.FrameError as error:
                    self._refuse(line, error)
                    return
                answer = self._answer(message, caller.waits(), is_quiet)
                caller.has_answer()
                del message
                if answer:
                    frames.write_message(line, answer, is_quiet=is_quiet)

    def _refuse(self, line: socket.socket, error: frames.FrameError) -> None:
        """Say what is wrong, and read on for a while, or the caller would not see it."""
        frames.write_message(line, [self._refusal(str(error))])
        end_s = time.monotonic() + _LONGEST_DRAIN_S
        line.settimeout(_LONGEST_DRAIN_S)
        while time.monotonic() < end_s and line.recv(_PASSED_BYTES):
            pass

    def _pass_on(self, connection: socket.socket) -> None:
        with socket.create_connection(self._inner, _FIRST_WORD_S) as inner:
            frames.prepare(inner)
            for end in (connection, inner):
                end.settimeout(None)
            back = threading.Thread(
                target=_pass, args=(inner, connection), name="partc-passing", daemon=True
            )
            back.start()
            _pass(connection, inner)
            back.join()


class _Caller:
    """Who is at the other end of a line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: GivingUp | None = None
        self._is_gone = False

    def waits(self) -> GivingUp:
        """For the next answer: says so when the caller is gone."""
        giving_up = GivingUp()
        with self._lock:
            self._now = giving_up
            is_gone = self._is_gone
        if is_gone:
            giving_up.set()
        return giving_up

    def has_answer(self) -> None:
        with self._lock:
            self._now = None

    def is_gone(self) -> None:
        with self._lock:
            self._is_gone = True
            giving_up = self._now
        if giving_up is not None:
            giving_up.set()


class _Watch:
    """Notices that a caller hangs up while its request is being carried out.

    Where the system has no epoll, the request is carried out to its end, or its deadline.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers: dict[int, _Caller] = {}
        self._poll = select.epoll() if hasattr(select, "epoll") else None
        if self._poll is not None:
            threading.Thread(target=self._look, name="partc-watch", daemon=True).start()

    @contextlib.contextmanager
    def over(self, line: socket.socket) -> Iterator[_Caller]:
        """The caller of a line, while the line is served."""
        caller, number = _Caller(), line.fileno()
        if self._poll is None:
            yield caller
            return
        with self._lock:
            self._callers[number] = caller
            self._poll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield caller
        finally:
            with self._lock, contextlib.suppress(OSError, ValueError):
                del self._callers[number]
                self._poll.unregister(number)

    def close(self) -> None:
        if self._poll is not None:
            with self._lock:
                self._poll.close()

    def _look(self) -> None:
        assert self._poll is not None
        while not self._poll.closed:
            try:
                events = self._poll.poll(1.0)
            except (OSError, ValueError):
                return
            for number, _ in events:
                with self._lock:
                    caller = self._callers.get(number)
                if caller is not None:
                    caller.is_gone()


def _listener(listen: str) -> socket.socket:
    host, port = split_address(listen)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _client_hello(connection: socket.socket) -> bytes:
    """What a connection begins with, if that is a handshake of TLS; it stays to be read."""
    wanted = _RECORD_HEADER_BYTES
    end_s = time.monotonic() + _FIRST_WORD_S
    while time.monotonic() < end_s:
        seen = connection.recv(wanted, socket.MSG_PEEK)
        if not seen or seen[0] != _HANDSHAKE:
            return b""
        if len(seen) == wanted:
            if wanted > _RECORD_HEADER_BYTES:
                return seen
            wanted += min(int.from_bytes(seen[3:5], "big"), _LARGEST_RECORD_BYTES)
            continue
        time.sleep(_PEEK_PAUSE_S)
    return b""


def _pass(source: socket.socket, sink: socket.socket) -> None:
    """Everything that comes from one end goes to the other, until that ends."""
    buffer = bytearray(_PASSED_BYTES)
    view = memoryview(buffer)
    try:
        while count := source.recv_into(view):
            sink.sendall(view[:count])
    except OSError:
        # Broken off; what has come of it elsewhere is of no use any more.
        frames.hang_up(source)
        frames.hang_up(sink)
        return
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
