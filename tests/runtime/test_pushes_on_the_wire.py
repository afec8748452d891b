"""Pushes as messages: what is refused, what is kept, and calls whose callers go away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from partc.bundle.reader import Bundle
from partc.runtime.models import ModelRequest
from partc.runtime.server import HostServer
from partc.runtime.transport import CallFailedError, CallRequest, FailureKind, PushTime, Report
from partc.runtime.wire.client import GrpcTransport
from partc.runtime.wire.messages import (
    _decode_report,
    _encode_report,
    decode_stream_answer,
    encode_request,
    encode_stream_failure,
)
from tests.runtime import meshes, plans
from tests.runtime.handmade import write_bundle
from tests.runtime.memory import MemoryNetwork
from tests.runtime.test_executor import wait_until

SERVICE = "/inference.GRPCInferenceService"
_SILENT = socket.create_server(("127.0.0.1", 0))
BLACK_HOLE = f"127.0.0.1:{_SILENT.getsockname()[1]}"
"""It takes connections and never says anything."""

PUSH = {"as0": np.ones((2, 64), np.float32)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The server ``right`` awaits ``as0`` first."""
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("bundle"), meshes.exchange(1)))


@pytest.fixture
def server(bundle: Bundle) -> Iterator[HostServer]:
    addresses = {"left": "127.0.0.1:1"}
    with HostServer(bundle, "right", addresses=addresses) as running:
        yield running


@pytest.fixture
def channel(server: HostServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def push_id(bundle: Bundle) -> str:
    steps = [step for call in bundle.manifest.plan.calls for step in call.steps]
    return next(step.push.id for step in steps if step.push and step.push.tensors == ["as0"])


def send(channel: Any, request: ModelRequest) -> Any:
    return channel.unary_unary(f"{SERVICE}/ModelInfer")(encode_request(request), timeout=20)


def test_a_push_is_kept_until_its_request_is_called_for(
    bundle: Bundle, server: HostServer, channel: Any
) -> None:
    name = push_id(bundle)
    send(channel, ModelRequest(name, "r", PUSH, identity=bundle.identity))
    send(channel, ModelRequest(name, "r", PUSH, identity=bundle.identity))
    assert (len(server.held), server.held.size_bytes) == (1, 512)


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"request": ""}, grpc.StatusCode.INVALID_ARGUMENT, "give the request's id"),
        ({"request": "r" * 200}, grpc.StatusCode.INVALID_ARGUMENT, "longer than"),
        ({"identity": "0" * 64}, grpc.StatusCode.NOT_FOUND, "another bundle"),
        ({"model": "x77"}, grpc.StatusCode.NOT_FOUND, "no model"),
        ({"tensors": {}}, grpc.StatusCode.INVALID_ARGUMENT, "'as0' is missing"),
        (
            {"tensors": {"as0": np.ones((2, 63), np.float32)}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "must have shape",
        ),
        (
            {"tensors": {**PUSH, "b1": PUSH["as0"]}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "no input named 'b1'",
        ),
    ],
)
def test_what_is_not_awaited_is_refused(
    change: dict[str, Any],
    code: grpc.StatusCode,
    sentence: str,
    bundle: Bundle,
    server: HostServer,
    channel: Any,
) -> None:
    data = {"model": push_id(bundle), "request": "r", "tensors": PUSH, "identity": bundle.identity}
    with pytest.raises(grpc.RpcError) as caught:
        send(channel, ModelRequest(**{**data, **change}))
    assert caught.value.code() is code
    assert sentence in (caught.value.details() or "")
    assert len(server.held) == 0


def waiting_call(bundle: Bundle, time_left_s: float) -> CallRequest:
    call = next(c for c in bundle.manifest.plan.calls if c.host == "right")
    given = dict.fromkeys(call.inputs, PUSH["as0"])
    return CallRequest(call.id, "r", bundle.identity, given, time_left_s)


def test_a_caller_that_goes_away_ends_the_wait(bundle: Bundle) -> None:
    with HostServer(bundle, "right", addresses={"left": BLACK_HOLE}) as server:
        transport = GrpcTransport({"right": server.address}, max_message_bytes=1 << 20)
        pending = transport.start("right", waiting_call(bundle, 600.0))
        wait_until(lambda: server.held.calls_under_way == 1)
        time.sleep(0.2)
        assert not pending.future.done()
        pending.abandon()
        wait_until(lambda: server.held.calls_under_way == 0)
        transport.close()


def test_who_waits_in_vain_says_for_whom(bundle: Bundle) -> None:
    with HostServer(bundle, "right", addresses={"left": BLACK_HOLE}) as server:
        transport = GrpcTransport({"right": server.address}, max_message_bytes=1 << 20)
        pending = transport.start("right", waiting_call(bundle, 1.0))
        with pytest.raises(CallFailedError) as caught:
            pending.future.result(20)
        transport.close()
    assert caught.value.kind is FailureKind.PEER
    assert caught.value.peer == "left"


def test_a_failure_that_blames_another_is_read_back() -> None:
    message = encode_stream_failure(("m", "r"), FailureKind.PEER, "it waited", "left")
    with pytest.raises(CallFailedError) as caught:
        decode_stream_answer(message)
    assert (caught.value.kind, caught.value.peer) == (FailureKind.PEER, "left")


def test_the_report_of_pushes_travels(bundle: Bundle) -> None:
    report = Report(pushes=[PushTime("x0", "left", "right", 0.5, 10, 20)])
    assert _decode_report(_encode_report(report)) == report
    old = json.loads(_encode_report(Report()))
    del old["pushes"]
    assert _decode_report(json.dumps(old)) == Report()


def test_hosts_really_work_at_the_same_time(tmp_path: Any) -> None:
    """Three segments that each wait for the two others to have begun."""
    pieces = (
        plans.scaling("s1", "left", "x", 2.0, "a"),
        plans.scaling("s2", "right", "x", 3.0, "b"),
        plans.scaling("s3", "camera", "x", 5.0, "c"),
        plans.adding("s4", "camera", "a", "b", "d"),
        plans.adding("s5", "camera", "c", "d", "y"),
    )
    drawing = meshes.mesh(pieces, ["camera", "left", "right"])
    network = MemoryNetwork(write_bundle(tmp_path, drawing), deadline_s=60)
    barrier = threading.Barrier(3, timeout=30)
    for host in network.hosts.values():
        run = host.segments.run

        def together(segment: Any, *rest: Any, run: Any = run) -> Any:
            if segment.id in ("s1", "s2", "s3"):
                barrier.wait()
            return run(segment, *rest)

        host.segments.run = together  # type: ignore[method-assign, assignment]
    feeds = plans.sample()
    answer = network.device.request(feeds)
    assert not answer.failures
    np.testing.assert_allclose(answer.outputs["y"], 10 * feeds["x"], rtol=1e-5)
