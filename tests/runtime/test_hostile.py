"""Messages that nobody in good faith sends: refused in a sentence, and the server goes on."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from partc.errors import RequestError
from partc.runtime.server import HostServer
from partc.runtime.transport import CallFailedError, FailureKind
from partc.runtime.wire import framing
from partc.runtime.wire.messages import decode_request, decode_stream_answer
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    bundle = write_bundle(tmp_path_factory.mktemp("bundle"), plans.there_and_back())
    with HostServer(bundle, "server") as running:
        yield running


@pytest.fixture
def channel(server: HostServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def send(channel: Any, message: bytes) -> Any:
    return channel.unary_unary(f"{SERVICE}/ModelInfer")(message, timeout=20)


def good(**changes: Any) -> Any:
    request = pb.ModelInferRequest(model_name="s1", id="x")
    request.inputs.add(name="t", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(bytes(256))
    for key, value in changes.items():
        setattr(request, key, value)
    return request


def tensor(datatype: str, shape: list[int], raw: bytes) -> bytes:
    request = pb.ModelInferRequest(model_name="s1")
    request.inputs.add(name="t", datatype=datatype, shape=shape)
    request.raw_input_contents.append(raw)
    return bytes(request.SerializeToString())


def encoded(codec: str, shape: list[int], raw: bytes) -> bytes:
    request = pb.ModelInferRequest(model_name="s1")
    field = request.inputs.add(name="t", datatype="FP32", shape=shape)
    field.parameters["partc_codec"].string_param = codec
    request.raw_input_contents.append(raw)
    return bytes(request.SerializeToString())


HOSTILE = {
    "empty": b"",
    "not protobuf": b"\xff" * 100,
    "a cut message": good().SerializeToString()[:-10],
    "a length beyond the end": b"\x3a\xff\xff\xff\xff\x0f",
    "an endless number": b"\x08" + b"\xff" * 30,
    "groups": b"\x0b" * 50,
    "an enormous shape": tensor("FP32", [2**62, 2**62], b""),
    "a huge shape": tensor("FP32", [2**40], b"\0" * 16),
    "an overflowing shape": tensor("FP32", [2**32, 2**32], b""),
    "a negative dimension": tensor("FP32", [-1, 64], b"\0" * 256),
    "zero times huge": tensor("FP32", [0, 2**62, 2**62], b""),
    "a thousand dimensions": tensor("FP32", [1] * 1000, b"\0" * 4),
    "too few bytes": tensor("FP32", [1, 64], b"\0" * 255),
    "too many bytes": tensor("FP32", [1, 64], b"\0" * 257),
    "an unknown datatype": tensor("FP128", [1, 64], b"\0" * 256),
    "no datatype": tensor("", [1, 64], b"\0" * 256),
    "texts beyond the end": tensor("BYTES", [1, 64], b"\xff\xff\xff\x7f" * 64),
    "more texts than bytes": tensor("BYTES", [2**40], b"\0" * 16),
    "a text that is not UTF-8": tensor("BYTES", [1], b"\x01\0\0\0\xff"),
    "an unknown codec": encoded("rot13", [1, 64], b"\0" * 256),
    "a codec's bomb": encoded("zstd", [2**40], b"\x28\xb5\x2f\xfd" + b"\0" * 50),
    "a decoded size beyond the limit": encoded("lz4", [1 << 27], b"\0" * 64),
    "bytes that are not compressed": encoded("lz4", [1, 64], b"\xff" * 64),
    "half of the half floats": encoded("fp16", [1, 64], b"\0" * 64),
    "an endless id": good(id="i" * 100_000).SerializeToString(),
    "an endless name": good(model_name="s" * 1_000_000).SerializeToString(),
    "many raw contents": good().SerializeToString() + b"\x3a\x00" * 100_000,
    "many tensors": pb.ModelInferRequest(model_name="s1").SerializeToString()
    + b"\x2a\x00" * 100_000,
    "a large header": good().SerializeToString() + b"\x12" + b"\xff\xff\xff\x03" + b"a" * 0x7FFFFF,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_in_a_sentence(name: str, channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(channel, HOSTILE[name])
    expected = {
        "an endless name": grpc.StatusCode.NOT_FOUND,
        "empty": grpc.StatusCode.NOT_FOUND,
    }.get(name, grpc.StatusCode.INVALID_ARGUMENT)
    assert caught.value.code() is expected
    assert 0 < len(caught.value.details()) < 2000
    answer = pb.ModelInferResponse.FromString(send(channel, good().SerializeToString()))
    assert len(answer.outputs) == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_on_a_stream_that_goes_on(name: str, channel: Any) -> None:
    messages = [HOSTILE[name], good().SerializeToString()]
    answers = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(iter(messages), timeout=20)
    first, second = [pb.ModelStreamInferResponse.FromString(answer) for answer in answers]
    assert first.error_message
    assert not second.error_message
    assert second.infer_response.id == "x"


def test_a_message_beyond_the_limit(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(channel, bytes(65 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_noise_on_the_socket_is_survived(server: HostServer, channel: Any) -> None:
    host, _, port = server.address.rpartition(":")
    noise = random.Random(0)
    for _ in range(20):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(noise.randbytes(10_000))
    assert send(channel, good().SerializeToString())


def test_unfinished_requests_do_not_pile_up(server: HostServer, channel: Any) -> None:
    """Twice as many requests as the server holds, each left after its first call."""
    request = good(model_name="c1")
    for index in range(600):
        request.id = f"r{index}"
        send(channel, request.SerializeToString())
    held = server.held
    assert len(held) <= 256
    assert held.size_bytes <= 256 * (3 * 256)


def test_memory_stays_bounded_under_hostile_messages(server: HostServer, channel: Any) -> None:
    """Small fields grow a hundredfold when parsed; the limit on them keeps that in bounds."""
    bomb = pb.ModelInferRequest(model_name="s1").SerializeToString()
    inner = b"\x22\x00" * 1_000_000
    bomb += b"\x2a" + framing._varint(len(inner)) + inner
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        with pytest.raises(grpc.RpcError):
            send(channel, bomb)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 1 << 18


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_or_refused(message: bytes) -> None:
    with contextlib.suppress(RequestError):
        decode_request(message)
    try:
        decode_stream_answer(message)
    except CallFailedError as error:
        assert error.kind in FailureKind


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_change_of_a_good_message_is_decoded_or_refused(data: Any) -> None:
    message = bytearray(good().SerializeToString())
    for _ in range(data.draw(st.integers(1, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensors = decode_request(bytes(message)).tensors
    except RequestError:
        return
    assert sum(np.asarray(array).nbytes for array in tensors.values()) <= 4096
