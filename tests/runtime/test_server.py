"""A server as a process and as a class: where it listens, how it stops, what it imports."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest

from partc.errors import UsageError
from partc.runtime.device import open_bundle
from partc.runtime.server import HostServer, parse_addresses, serve
from tests.runtime import plans
from tests.runtime.handmade import write_bundle


@contextmanager
def process(bundle: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "partc.runtime.server", str(bundle), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_call_finish(number: signal.Signals, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.slow_server(2000))
    with process(bundle, "--host", "server") as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with open_bundle(bundle, addresses={"server": address}, deadline_s=15) as device:
            timer = threading.Timer(0.15, server.send_signal, [number])
            timer.start()
            feeds = plans.sample()
            answer = device.request(feeds)
        np.testing.assert_allclose(answer.outputs["y"], 2 * feeds["x"], rtol=1e-5)
        assert answer.latency_s > 0.2, "it ended before the signal"
        assert not answer.failures
        assert server.wait(10) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


def test_it_stops_when_its_input_ends(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with process(bundle, "--host", "server", "--exit-with-input") as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert server.stdout.readline().startswith("127.0.0.1:")
        server.stdin.close()
        server.stdin = None
        assert server.wait(10) == 0


def test_wrong_use_is_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    for arguments, sentence in (
        (["--host", "servr"], "Did you mean 'server'?"),
        (["--host", "server", "--listen", "0.0.0.0:0"], "are not authenticated"),
        (["--host", "server", "--listen", "nowhere"], "is not HOST:PORT"),
    ):
        with process(bundle, *arguments) as server:
            _, errors = server.communicate(timeout=20)
        assert server.returncode == 2
        assert sentence in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.168.1.1:80", "example.org:80"])
def test_other_machines_are_let_in_only_on_request(listen: str, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with pytest.raises(UsageError, match="can be reached from other machines"):
        HostServer(bundle, "server", listen)


def test_a_port_in_use(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with (
        HostServer(bundle, "server") as first,
        pytest.raises(UsageError, match="is another server running there"),
    ):
        HostServer(bundle, "server", first.address)


def test_serving_from_a_thread(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    ready: list[str] = []
    listening, stop = threading.Event(), threading.Event()

    def on_ready(address: str) -> None:
        ready.append(address)
        listening.set()

    thread = threading.Thread(
        target=serve, args=(bundle, "server"), kwargs={"on_ready": on_ready, "stop": stop}
    )
    thread.start()
    assert listening.wait(20)
    with open_bundle(bundle, addresses={"server": ready[0]}) as device:
        feeds = plans.sample()
        np.testing.assert_allclose(device.run(feeds)["y"], 6 * feeds["x"], rtol=1e-5)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_device_opens_before_its_server_is_there(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with HostServer(bundle, "server") as server:
        address = server.address
    with open_bundle(bundle, addresses={"server": address}) as device:
        feeds = plans.sample()
        answer = device.request(feeds)
        np.testing.assert_allclose(answer.outputs["y"], 6 * feeds["x"], rtol=1e-5)
        assert answer.finished_locally
        with HostServer(bundle, "server", address):
            end_s = time.monotonic() + 15
            while device.request(feeds).finished_locally:
                assert time.monotonic() < end_s
                time.sleep(0.05)


def test_addresses() -> None:
    assert parse_addresses(["a=1.2.3.4:5", "b=c:6"]) == {"a": "1.2.3.4:5", "b": "c:6"}
    with pytest.raises(UsageError, match="is not NAME=HOST:PORT"):
        parse_addresses(["a"])


def imported(statement: str, modules: tuple[str, ...]) -> set[str]:
    code = f"import sys; {statement}; print(*(m for m in {modules} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = ("grpc", "tritonclient", "onnxruntime")
    for module in ("partc.runtime", "partc.runtime.device", "partc.runtime.local"):
        assert imported(f"import {module}", heavy) == set()
    assert imported("import partc.runtime.server", heavy) == set()
    assert imported("import partc.runtime.relay", (*heavy, "numpy", "pydantic")) == set()


def test_the_runtime_needs_neither_optimizer_nor_graph_surgery() -> None:
    everything = "; ".join(
        f"import partc.runtime.{name}"
        for name in ("device", "server", "local", "wire.client", "wire.server")
    )
    others = ("partc.optimizer", "partc.passes", "onnx_graphsurgeon", "pulp", "partc.report")
    assert imported(everything, others) == set()


def test_more_streams_than_calls_at_once_may_be_open(tmp_path: Path) -> None:
    """A hundred devices that hold a stream each, and one more that asks."""
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with HostServer(bundle, "server") as server, ExitStack() as stack:
        for _ in range(100):
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            stack.callback(stream(iter(SimpleQueue().get, None)).cancel)
        with open_bundle(bundle, addresses={"server": server.address}) as device:
            feeds = plans.sample()
            assert not device.request(feeds).failures
