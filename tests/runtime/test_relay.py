"""The emulated link against what a link of that bandwidth and delay must take.

Bounds below are exact: a link cannot be faster. Bounds above are generous, since the machine may
be busy; each figure is the best of several tries.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from partc.runtime.relay import Link, Relay

REPLY_BYTES = 100


class Counter:
    """Answers every ``size`` bytes with 100, until closed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer:
            while True:
                left = self.size
                while left:
                    chunk = peer.recv(min(left, 1 << 20))
                    if not chunk:
                        return
                    left -= len(chunk)
                peer.sendall(bytes(REPLY_BYTES))


@pytest.fixture
def counter() -> Iterator[Callable[[int], Counter]]:
    made: list[Counter] = []

    def make(size: int) -> Counter:
        made.append(Counter(size))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange_s(connection: socket.socket, size: int) -> float:
    start_s = time.perf_counter()
    connection.sendall(bytes(size))
    left = REPLY_BYTES
    while left:
        chunk = connection.recv(left)
        assert chunk, "the connection was closed"
        left -= len(chunk)
    return time.perf_counter() - start_s


@pytest.mark.parametrize(
    ("mbit_s", "rtt_ms", "size"),
    [(20, 10, 100), (20, 10, 75_000), (100, 2, 600_000), (1000, 5, 600_000), (1e5, 0, 100)],
)
def test_one_exchange_takes_what_the_link_takes(
    mbit_s: float, rtt_ms: float, size: int, counter: Callable[[int], Counter]
) -> None:
    link = Link(mbit_s, mbit_s, rtt_ms / 1e3)
    relay = Relay(link, counter(size).address)
    ideal_s = rtt_ms / 1e3 + (size + REPLY_BYTES) * 8e-6 / mbit_s
    with connect(relay.address) as connection:
        taken_s = [exchange_s(connection, size) for _ in range(8)]
    relay.close()
    assert min(taken_s) >= ideal_s
    assert min(taken_s) < ideal_s * 1.05 + 0.002


def test_the_two_directions_differ(counter: Callable[[int], Counter]) -> None:
    size = 50_000
    times_s = []
    for link in (Link(10, 1000, 0), Link(1000, 10, 0)):
        relay = Relay(link, counter(size).address)
        with connect(relay.address) as connection:
            times_s.append(min(exchange_s(connection, size) for _ in range(5)))
        relay.close()
    assert times_s[0] >= 0.04
    assert times_s[1] < 0.02


def test_a_caller_at_the_far_end_sends_backward(counter: Callable[[int], Counter]) -> None:
    size = 50_000
    relay = Relay(Link(1000, 10, 0), counter(size).address, reverse=True)
    with connect(relay.address) as connection:
        assert exchange_s(connection, size) >= 0.04
    relay.close()


def test_connections_share_the_bandwidth(counter: Callable[[int], Counter]) -> None:
    size, parallel = 100_000, 4
    relay = Relay(Link(50, 50, 0), counter(size).address)
    connections = [connect(relay.address) for _ in range(parallel)]
    threads = [threading.Thread(target=exchange_s, args=(c, size)) for c in connections]
    start_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken_s = time.perf_counter() - start_s
    for connection in connections:
        connection.close()
    relay.close()
    ideal_s = parallel * size * 8e-6 / 50
    assert ideal_s <= taken_s < 1.25 * ideal_s + 0.005


def test_a_fast_sender_is_held_back() -> None:
    """Without back-pressure the relay would swallow the 4 MB at once."""
    sink = socket.create_server(("127.0.0.1", 0))
    relay = Relay(Link(20, 20, 0.01), f"127.0.0.1:{sink.getsockname()[1]}")
    with connect(relay.address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        connection.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 32 << 20:
                sent += connection.send(bytes(64 << 10))
    relay.close()
    sink.close()


def test_a_receiver_that_does_not_read_holds_the_sender_back() -> None:
    sink = socket.create_server(("127.0.0.1", 0))
    relay = Relay(Link(10_000, 10_000, 0.001), f"127.0.0.1:{sink.getsockname()[1]}")
    with connect(relay.address) as connection:
        peer, _ = sink.accept()
        connection.settimeout(1.0)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 30:
                sent += connection.send(bytes(1 << 20))
        assert sent < 256 << 20
        peer.close()
    relay.close()
    sink.close()


def test_all_bytes_arrive_in_order_and_the_end_too() -> None:
    source = bytes(range(256)) * 4000
    sink = socket.create_server(("127.0.0.1", 0))
    relay = Relay(Link(500, 500, 0.004), f"127.0.0.1:{sink.getsockname()[1]}")
    with connect(relay.address) as connection:
        peer, _ = sink.accept()

        def send_all() -> None:
            connection.sendall(source)
            connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=send_all).start()
        received = bytearray()
        while chunk := peer.recv(1 << 16):
            received += chunk
        assert bytes(received) == source
        peer.sendall(b"done")
        peer.close()
        assert connection.recv(10) == b"done"
        assert connection.recv(10) == b""
    relay.close()
    sink.close()


def test_cut_hang_and_mend(counter: Callable[[int], Counter]) -> None:
    relay = Relay(Link(1000, 1000, 0), counter(100).address)
    connection = connect(relay.address)
    exchange_s(connection, 100)
    relay.hang()
    connection.settimeout(0.3)
    connection.sendall(bytes(100))
    with pytest.raises(TimeoutError):
        connection.recv(100)
    relay.mend()
    connection.settimeout(5)
    assert connection.recv(100)
    relay.cut()
    with pytest.raises(OSError), connect(relay.address) as other:
        connection.close()
        if not other.recv(1):
            raise ConnectionResetError
    relay.mend()
    with connect(relay.address) as other:
        exchange_s(other, 100)
    relay.close()


def test_a_host_that_is_not_there_is_refused_in_time() -> None:
    unused = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{unused.getsockname()[1]}"
    unused.close()
    relay = Relay(Link(1000, 1000, 0.02), address)
    start_s = time.perf_counter()
    with connect(relay.address) as connection, pytest.raises(ConnectionResetError):
        if not connection.recv(1):
            raise ConnectionResetError
    assert 0.02 <= time.perf_counter() - start_s < 1
    relay.close()


def test_as_a_process(counter: Callable[[int], Counter]) -> None:
    size = 25_000
    server = counter(size)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "partc.runtime.relay"),
            *("--forward-mbit-s=10", "--backward-mbit-s=10", "--rtt-ms=20"),
            *("--to=127.0.0.1:0", f"--back=127.0.0.1:0={server.address}"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        towards, back = json.loads(process.stdout.readline())
        process.stdin.write(f"target 0 {server.address}\n")
        process.stdin.flush()
        time.sleep(0.1)
        for address in (towards, back):
            with connect(address) as connection:
                taken_s = min(exchange_s(connection, size) for _ in range(5))
            assert 0.04 <= taken_s < 0.05
        process.stdin.close()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
