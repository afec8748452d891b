"""Messages and connections: what is written is what the protocol's own library reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2 as pb

from partc.bundle.reader import Bundle
from partc.runtime.device import open_bundle
from partc.runtime.host import Host
from partc.runtime.models import HostedModels, ModelAnswer, ModelRequest
from partc.runtime.server import HostServer
from partc.runtime.transport import (
    CallFailedError,
    CallTime,
    FailureKind,
    Report,
    SegmentTime,
)
from partc.runtime.wire.client import SERVICE, GrpcTransport
from partc.runtime.wire.messages import (
    decode_answer,
    decode_request,
    decode_stream_answer,
    encode_answer,
    encode_request,
    encode_stream_answer,
    encode_stream_failure,
    request_pieces,
    stream_answer_pieces,
)
from partc.runtime.wire.service import InferenceService
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

numbers = arrays.arrays(
    dtype=st.sampled_from(
        ["float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
    ),
    shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
texts = arrays.arrays(
    dtype=object,
    shape=arrays.array_shapes(min_dims=1, max_dims=2, max_side=3),
    elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
tensors = st.dictionaries(
    st.text(st.characters(codec="ascii"), max_size=9), numbers | texts, max_size=3
)


def assert_same(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert one[name].shape == other[name].shape
        np.testing.assert_array_equal(one[name], other[name])


@given(tensors)
@settings(max_examples=200, deadline=None)
def test_a_request_survives_the_way(given_tensors: dict[str, Any]) -> None:
    request = ModelRequest("m", "id", given_tensors, ("a", "b"), "identity", 1.5)
    message = encode_request(request)
    decoded = decode_request(message)
    assert_same(decoded.tensors, given_tensors)
    assert (decoded.model, decoded.request, decoded.outputs) == ("m", "id", ("a", "b"))
    assert (decoded.identity, decoded.time_left_s) == ("identity", 1.5)
    parsed = pb.ModelInferRequest.FromString(message)
    assert [tensor.name for tensor in parsed.inputs] == list(given_tensors)
    assert len(parsed.raw_input_contents) == len(given_tensors)
    # What the protocol's own library writes is read the same.
    assert_same(decode_request(parsed.SerializeToString()).tensors, given_tensors)


@given(tensors)
@settings(max_examples=200, deadline=None)
def test_an_answer_survives_the_way(given_tensors: dict[str, Any]) -> None:
    report = Report(
        [SegmentTime("s", "h", 0.25)], [CallTime("c", "a", "b", 0.5, 3, 4)], ["it failed"]
    )
    answer = ModelAnswer("m", "id", given_tensors, report)
    for decoded in (
        decode_answer(encode_answer(answer)),
        decode_stream_answer(encode_stream_answer(answer)),
    ):
        assert_same(decoded.tensors, given_tensors)
        assert decoded.report == report
    parsed = pb.ModelStreamInferResponse.FromString(encode_stream_answer(answer)).infer_response
    alone = pb.ModelInferResponse.FromString(encode_answer(answer))
    for message in (parsed, alone):
        message.DiscardUnknownFields()  # padding
    assert parsed == alone


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_survives_the_way(kind: FailureKind) -> None:
    message = encode_stream_failure(("m", "id"), kind, "it is so")
    with pytest.raises(CallFailedError, match="it is so") as caught:
        decode_stream_answer(message)
    assert caught.value.kind is kind
    assert pb.ModelStreamInferResponse.FromString(message).infer_response.id == "id"


def test_tensors_that_do_not_lie_in_order_are_sent_in_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (array.T, array[:, ::2], array[::-1], np.broadcast_to(array[0, 0], (5, 4))):
        decoded = decode_request(encode_request(ModelRequest("m", "", {"t": view})))
        np.testing.assert_array_equal(decoded.tensors["t"], view)


@given(
    st.text(max_size=40),
    st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    st.sampled_from(["uint8", "float32", "float64"]),
)
@settings(max_examples=100, deadline=None)
def test_tensors_are_not_copied_on_their_way(request: str, sizes: list[int], dtype: str) -> None:
    given = {f"t{n}": np.ones(size, dtype) for n, size in enumerate(sizes)}
    pieces = request_pieces(ModelRequest("m", request, given))
    sent = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [
        np.shares_memory(np.frombuffer(p, np.uint8), a)
        for p, a in zip(sent, given.values(), strict=True)
    ] == [bool(n) for n in sizes]
    received = b"".join(pieces)
    answer = b"".join(stream_answer_pieces(ModelAnswer("m", request, given)))
    for message, found in (
        (received, decode_request(received).tensors),
        (answer, decode_stream_answer(memoryview(answer)).tensors),
    ):
        buffer = np.frombuffer(message, np.uint8)
        for array in found.values():
            assert not array.size or np.shares_memory(array, buffer)
            assert array.flags.aligned


def test_a_host_without_streams_is_called_without(tmp_path: Path) -> None:
    """Such as another server of the protocol, or a proxy that refuses streams."""
    bundle = write_bundle(tmp_path, plans.there_and_back())
    host = Host(Bundle.open(bundle), "server")
    service = InferenceService(HostedModels(host.executor), "server")
    whole = service.handler()

    class WithoutStream(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return None if details.method.endswith("ModelStreamInfer") else whole.service(details)

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((WithoutStream(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    transport = GrpcTransport({"server": f"127.0.0.1:{port}"}, max_message_bytes=1 << 20)
    with open_bundle(bundle, transport=transport) as device:
        feeds = plans.sample()
        for _ in range(3):
            answer = device.request(feeds)
            np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)
            assert not answer.failures
    server.stop(None).wait()
    host.close()


@pytest.mark.parametrize("prefer_stream", [True, False])
def test_failures_keep_their_kind_over_the_wire(prefer_stream: bool, tmp_path: Path) -> None:
    from partc.runtime.transport import CallRequest

    bundle = write_bundle(tmp_path, plans.there_and_back())
    identity = Bundle.open(bundle).identity
    t = plans.sample()["x"]
    with HostServer(bundle, "server") as server:
        transport = GrpcTransport(
            {"server": server.address}, max_message_bytes=1 << 20, prefer_stream=prefer_stream
        )

        def failure(call: str, tensors: dict[str, Any], identity: str) -> CallFailedError:
            request = CallRequest(call, "r", identity, tensors, 5.0)
            error = transport.start("server", request).future.exception(10)
            assert isinstance(error, CallFailedError)
            return error

        lost = failure("c2", {"v": t}, identity)
        assert lost.kind is FailureKind.LOST_STATE
        assert "does not hold tensor 'kept'" in lost.reason
        assert failure("c1", {"t": t[0]}, identity).kind is FailureKind.REFUSED
        assert failure("c1", {"t": t}, "other").kind is FailureKind.OTHER_BUNDLE
        assert failure("c9", {"t": t}, identity).kind is FailureKind.OTHER_BUNDLE
    gone = failure("c1", {"t": t}, identity)
    assert gone.kind is FailureKind.UNREACHABLE
    assert "cannot be reached" in gone.reason
    transport.close()


def test_the_service_name_is_the_protocols() -> None:
    assert pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == SERVICE
