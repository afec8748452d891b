"""Emulates a link between two hosts: a TCP relay with the link's bandwidth and delay.

``python -m partc.runtime.relay`` runs one link as a process. Every chunk of bytes is sent on when
a link of that bandwidth would have delivered it: all connections of a direction share one clock
that says when the link is free again, and half the round-trip time is added. Blocking threads and
``time.sleep`` keep that accurate to about a tenth of a millisecond; event-loop timers do not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from partc.runtime.pacing import sleep_until, use_fine_timers

_CHUNK_S = 0.001
_SMALLEST_CHUNK_BYTES = 1460
_LARGEST_CHUNK_BYTES = 256 * 1024
_AHEAD_S = 0.002
"""How far ahead of the link a sender may run: enough to keep the link busy, no more."""

_STALL_S = 0.02
_MAX_CONNECTIONS = 256
_SOCKET_BUFFER_BYTES = 128 * 1024
_CONNECT_TIMEOUT_S = 2.0
_POLL_S = 0.002
_SWITCH_S = 0.0005
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction:
    """One direction of a link, shared by all connections.

    Args:
        bandwidth_mbit_s: 10^6 bits per second.
        delay_s: from the last bit sent to the last bit received.
    """

    def __init__(self, bandwidth_mbit_s: float, delay_s: float) -> None:
        self._lock = threading.Lock()
        self._free_s = 0.0
        self.delay_s = delay_s
        self.set_bandwidth(bandwidth_mbit_s)

    def set_bandwidth(self, bandwidth_mbit_s: float) -> None:
        """Change how fast what is sent from now on goes through."""
        self._seconds_per_byte = 8e-6 / bandwidth_mbit_s
        # More than a link can hold means that the receiver does not read.
        self.in_flight_bytes = int((self.delay_s + _STALL_S) / self._seconds_per_byte) + (1 << 18)
        wanted = int(_CHUNK_S / self._seconds_per_byte)
        self.chunk_bytes = max(_SMALLEST_CHUNK_BYTES, min(wanted, _LARGEST_CHUNK_BYTES))

    def reserve(self, size_bytes: int) -> tuple[float, float]:
        """Take the link for ``size_bytes``: when it is free again, and when they arrive."""
        with self._lock:
            start_s = max(time.perf_counter(), self._free_s)
            self._free_s = start_s + size_bytes * self._seconds_per_byte
            return self._free_s, self._free_s + self.delay_s


class Link:
    """Both directions of a link, and what has happened to it.

    Args:
        forward_mbit_s: towards the host that is called.
        backward_mbit_s: from it.
    """

    def __init__(self, forward_mbit_s: float, backward_mbit_s: float, rtt_s: float) -> None:
        self.forward = Direction(forward_mbit_s, rtt_s / 2)
        self.backward = Direction(backward_mbit_s, rtt_s / 2)
        self.flowing = threading.Event()
        self.flowing.set()
        self.is_cut = False

    @classmethod
    def of_medium(cls, medium: Link) -> Link:
        """Two hosts on a medium where one sends at a time, whoever it is and to whom."""
        link = cls(1.0, 1.0, 0.0)
        link.forward = link.backward = medium.forward
        return link


class Relay:
    """Listens for connections to one host and passes them through a link.

    Args:
        target: ``HOST:PORT`` to connect to; may be set later.
        reverse: the called host is on the near side of the link, so its directions are swapped.

    Attributes:
        address: where it listens.
    """

    def __init__(
        self,
        link: Link,
        target: str | None = None,
        *,
        listen: str = "127.0.0.1:0",
        reverse: bool = False,
    ) -> None:
        self.target = target
        self._link = link
        self._there, self._back = link.forward, link.backward
        if reverse:
            self._there, self._back = self._back, self._there
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
        self._listener.bind(_split(listen))
        self._listener.listen(64)
        self.address = "{}:{}".format(*self._listener.getsockname())
        _in_thread(self._accept)

    def set_bandwidth(self, forward_mbit_s: float, backward_mbit_s: float) -> None:
        """Change the link's rates, for what is sent from now on."""
        self._link.forward.set_bandwidth(forward_mbit_s)
        self._link.backward.set_bandwidth(backward_mbit_s)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until the link is whole again."""
        self._link.is_cut = True
        self._link.flowing.set()
        with self._lock:
            cut, self._open = self._open, set()
        for end in cut:
            _reset(end)

    def hang(self) -> None:
        """Pass nothing on, and say nothing: a pulled cable."""
        self._link.flowing.clear()

    def mend(self) -> None:
        """Undo `cut` and `hang`."""
        self._link.is_cut = False
        self._link.flowing.set()

    def close(self) -> None:
        """Stop listening and drop all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            _in_thread(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        if self._link.is_cut or self.target is None or len(self._open) > 2 * _MAX_CONNECTIONS:
            _reset(near)
            return
        try:
            far = socket.create_connection(_split(self.target), _CONNECT_TIMEOUT_S)
        except OSError:
            # The caller learns of it after the time that a real refusal would have taken.
            time.sleep(self._there.delay_s + self._back.delay_s)
            _reset(near)
            return
        far.settimeout(None)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.update((near, far))
        _in_thread(self._receive, near, far, self._there)
        _in_thread(self._receive, far, near, self._back)

    def _receive(self, source: socket.socket, sink: socket.socket, way: Direction) -> None:
        """Read as fast as the link takes it; another thread delivers."""
        use_fine_timers()
        flight = _Flight()
        _in_thread(self._deliver, flight, source, sink)
        while True:
            try:
                chunk = source.recv(way.chunk_bytes)
            except OSError:
                chunk = b""
            free_s, arrives_s = way.reserve(len(chunk))
            flight.put(arrives_s, chunk)
            if not chunk:
                return
            # Not reading on is the back-pressure.
            sleep_until(free_s - _AHEAD_S)
            while flight.size_bytes > way.in_flight_bytes and not flight.is_over:
                time.sleep(_POLL_S)
            if not self._link.flowing.is_set():
                self._link.flowing.wait()

    def _deliver(self, flight: _Flight, source: socket.socket, sink: socket.socket) -> None:
        use_fine_timers()
        while True:
            arrives_s, chunk = flight.chunks.get()
            sleep_until(arrives_s)
            if not self._link.flowing.is_set():
                self._link.flowing.wait()
            try:
                if not chunk:
                    sink.shutdown(socket.SHUT_WR)
                    break
                sink.sendall(chunk)
            except OSError:
                for end in (source, sink):
                    _reset(end)
                break
            flight.delivered_bytes += len(chunk)
        flight.is_over = True
        self._finish(source, sink)

    def _finish(self, source: socket.socket, sink: socket.socket) -> None:
        """Close both ends once both directions have ended; each removes the end it wrote to."""
        with self._lock:
            self._open.discard(sink)
            if source in self._open:
                return
        source.close()
        sink.close()


class _Flight:
    """What is under way in one direction of one connection.

    The two counters have one writer each, so they need no lock.
    """

    def __init__(self) -> None:
        self.chunks: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self.sent_bytes = 0
        self.delivered_bytes = 0
        self.is_over = False

    def put(self, arrives_s: float, chunk: bytes) -> None:
        self.sent_bytes += len(chunk)
        self.chunks.put((arrives_s, chunk))

    @property
    def size_bytes(self) -> int:
        return self.sent_bytes - self.delivered_bytes


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()


def _in_thread(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Emulate one link until standard input ends.

    Prints one line: a JSON list of the addresses of its listeners. Reads commands, one a line:
    ``target INDEX HOST:PORT``, ``cut``, ``hang``, ``mend`` (all listeners, or those whose indices
    follow), ``bandwidth FORWARD BACKWARD``.
    """
    parser = argparse.ArgumentParser(prog="python -m partc.runtime.relay", description=main.__doc__)
    parser.add_argument("--forward-mbit-s", type=float, required=True)
    parser.add_argument("--backward-mbit-s", type=float, required=True)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument(
        "--medium",
        action="store_true",
        help="each listener is for two hosts of their own, and all of them, in both directions, "
        "share the forward bandwidth",
    )
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="LISTEN[=TARGET]",
        help="relay calls to a host at the far end, such as 127.0.0.1:0=127.0.0.1:8500",
    )
    parser.add_argument(
        "--back", action="append", default=[], metavar="LISTEN[=TARGET]", help="at the near end"
    )
    given = parser.parse_args(arguments)
    sys.setswitchinterval(_SWITCH_S)
    link = Link(given.forward_mbit_s, given.backward_mbit_s, given.rtt_ms / 1e3)
    relays: list[Relay] = []
    for ways, reverse in ((given.to, False), (given.back, True)):
        for way in ways:
            listen, _, target = way.partition("=")
            own = Link.of_medium(link) if given.medium else link
            relays.append(Relay(own, target or None, listen=listen, reverse=reverse))
    sys.stdout.write(json.dumps([relay.address for relay in relays]) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        _obey(line.split(), relays)
    return 0


def _obey(command: list[str], relays: list[Relay]) -> None:
    match command:
        case ["target", index, address]:
            relays[int(index)].target = address
        case ["bandwidth", forward, backward]:
            for relay in relays:
                relay.set_bandwidth(float(forward), float(backward))
        case ["cut" | "hang" | "mend" as what, *indices]:
            for relay in [relays[int(index)] for index in indices] or relays:
                getattr(relay, what)()
        case _:
            sys.stderr.write(f"unknown command {' '.join(command)!r}\n")


if __name__ == "__main__":
    sys.exit(main())
