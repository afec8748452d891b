"""Messages that no client in good faith sends to an agent: refused, and the agent goes on."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from partc.agent.messages import FileHeader
from partc.agent.wire.client import AgentClient
from partc.agent.wire.service import SERVICE
from tests.agent.support import AgentProcess

PLAIN = ("Describe", "Terms", "Missing", "Offer", "Activate")
EVENTS = ("Measure", "Prepare", "MeasureLink", "Fetch")

MESSAGES = {
    "nothing": b"",
    "noise": random.Random(0).randbytes(1000),
    "another shape": b"[]",
    "a key too many": b'{"x": 1}',
    "no end": b'{"digests": [' + b"[" * 50_000,
    "many digests": b'{"digests": [' + b'"a",' * 200_000 + b'"a"]}',
    "a digest that is a path": b'{"digests": ["../../../etc/passwd"]}',
    "a job for no backend": b'{"kind": "detect", "backend": "\\u001b[2J"}',
    "a job of no kind": b'{"kind": "rm", "backend": "onnxruntime"}',
    "a job without a model": b'{"kind": "profile", "backend": "onnxruntime"}',
    "a job with a path": b'{"kind": "profile", "backend": "onnxruntime", "subjects": '
    b'[{"graph": "/etc/passwd"}]}',
    "an engine of nothing": b'{"kind": "build", "backend": "tensorrt-rtx"}',
    "an engine of paths": b'{"kind": "build", "backend": "tensorrt-rtx", "engine": {"files": '
    b'[{"name": "../../x", "sha256": "%s"}]}}' % (b"0" * 64),
    "a file that is a path": b'{"sha256": "../../../etc/passwd"}',
    "a link to nowhere": b'{"address": "unix:/tmp/x", "budget_s": 1}',
    "a link without end": b'{"address": "127.0.0.1:1", "budget_s": 1e300}',
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def channel(agent: AgentProcess) -> Iterator[Any]:
    with grpc.insecure_channel(agent.address) as opened:
        yield opened


def check_lives(agent: AgentProcess) -> None:
    with AgentClient(agent.address, None) as client:
        assert client.describe().processor.cores > 0


@pytest.mark.parametrize("name", MESSAGES)
def test_refused_in_a_sentence(name: str, agent: AgentProcess, channel: Any) -> None:
    message = MESSAGES[name]
    for method in (*PLAIN, *EVENTS):
        try:
            if method in PLAIN:
                channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=30)
            else:
                list(channel.unary_stream(f"/{SERVICE}/{method}")(message, timeout=30))
        except grpc.RpcError as error:
            assert error.code() in (
                grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION,
            ), (method, error.details())  # fmt: skip
            assert 0 < len(error.details()) < 5000 and "Traceback" not in error.details()
        else:
            pytest.fail(f"{method} accepted {name}")
    check_lives(agent)


def put(channel: Any, *chunks: bytes) -> None:
    channel.stream_unary(f"/{SERVICE}/Put")(iter(chunks), timeout=30)


def test_files_that_lie_about_themselves(agent: AgentProcess, channel: Any) -> None:
    def header(size: int) -> bytes:
        return FileHeader(sha256="0" * 64, size_bytes=size).to_bytes()

    cases = [
        (), (b"",), (b"noise", b"noise"), (header(4), b"abcd"), (header(4), b"ab"),
        (header(4), b"abcdefgh"), (header(0),), (header(1 << 60), b"a"),
        (b'{"sha256": "../../../tmp/evil", "size_bytes": 1}', b"a"),
        (b'{"sha256": "%s", "size_bytes": -1}' % (b"0" * 64), b"a"),
    ]  # fmt: skip
    for chunks in cases:
        with pytest.raises(grpc.RpcError) as caught:
            put(channel, *chunks)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert not list((agent.state / "files" / "incoming").iterdir())
    check_lives(agent)


def test_a_file_that_stops_in_the_middle(agent: AgentProcess, channel: Any) -> None:
    import threading
    import time

    stop = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield FileHeader(sha256="0" * 64, size_bytes=100).to_bytes()
        yield b"a"
        stop.wait(30)

    call = channel.stream_unary(f"/{SERVICE}/Put").future(chunks())
    end_s = time.monotonic() + 20
    incoming = agent.state / "files" / "incoming"
    while not list(incoming.iterdir()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    call.cancel()
    stop.set()
    while list(incoming.iterdir()):
        assert time.monotonic() < end_s, "half a file was left behind"
        time.sleep(0.05)


def test_noise_on_the_socket(agent: AgentProcess) -> None:
    host, _, port = agent.address.rpartition(":")
    noise = random.Random(0)
    for _ in range(20):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(noise.randbytes(10_000))
    check_lives(agent)


def test_link_messages_that_make_no_sense(agent: AgentProcess) -> None:
    import numpy as np

    from partc.agent.serving import LINK_DATA, LINK_MODEL, LINK_WANTED
    from partc.runtime.transport import CallFailedError, CallRequest
    from partc.runtime.wire.client import GrpcTransport

    data = np.zeros(4, np.uint8)
    transport = GrpcTransport({"peer": agent.address}, max_message_bytes=1 << 24)
    for tensors in (
        {}, {LINK_DATA: data}, {LINK_DATA: data, LINK_WANTED: np.array([-1])},
        {LINK_DATA: data, LINK_WANTED: np.array([1 << 62])},
        {LINK_DATA: data, LINK_WANTED: np.array([1.5])},
        {LINK_DATA: data, LINK_WANTED: np.array([1, 2])},
    ):  # fmt: skip
        request = CallRequest(LINK_MODEL, "id", "", tensors, 10.0)
        with pytest.raises(CallFailedError):
            transport.start("peer", request).future.result(10)
    transport.close()
    check_lives(agent)
