"""An ordinary Open Inference Protocol client calls a served segment."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import helper
from tritonclient.utils import InferenceServerException

from partc.runtime.server import HostServer
from tests.runtime import plans
from tests.runtime.handmade import Drawing, Piece, Tensor, call, write_bundle

DTYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int8": "INT8",
    "bool": "BOOL",
    "string": "BYTES",
}


def passing(dtype: str) -> Drawing:
    """A segment that hands a tensor of any type on, joined with itself."""
    node = helper.make_node("Concat", ["t", "t"], ["y"], axis=0)
    first = helper.make_node("Identity", ["x"], ["t"])
    return Drawing(
        tensors=(
            Tensor("x", ("N", 3), dtype),
            Tensor("t", ("N", 3), dtype),
            Tensor("y", ("M", 3), dtype),
        ),
        inputs=("x",),
        outputs=("y",),
        pieces=(
            Piece("s0", "camera", ("x",), ("t",), (first,)),
            Piece("s1", "server", ("t",), ("y",), (node,)),
        ),
        calls=(
            call("c0", None, "camera", ["x"], ["y"], ["s0", "c1"]),
            call("c1", "camera", "server", ["t"], ["y"], ["s1"]),
        ),
        links=(("camera", "server"),),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostServer]:
    bundle = write_bundle(tmp_path_factory.mktemp("bundle"), plans.there_and_back())
    with HostServer(bundle, "server") as running:
        yield running


@pytest.fixture
def client(server: HostServer) -> Iterator[Any]:
    with triton.InferenceServerClient(server.address) as connected:
        yield connected


def given(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32") -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def test_the_server_is_live_and_describes_itself(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "partc host server"
    assert client.is_model_ready("s1")
    assert not client.is_model_ready("s0"), "a segment of another host"


def test_metadata_of_a_segment_and_of_a_call(client: Any) -> None:
    segment = client.get_model_metadata("s1", as_json=True)
    shape = ["-1", "64"]
    assert segment["inputs"] == [{"name": "t", "datatype": "FP32", "shape": shape}]
    assert [tensor["name"] for tensor in segment["outputs"]] == ["kept", "u"]
    call = client.get_model_metadata("c2", as_json=True)
    assert [tensor["name"] for tensor in call["inputs"]] == ["v"]
    with pytest.raises(InferenceServerException, match=r"Did you mean 's1'") as caught:
        client.get_model_metadata("s11")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_health(server: HostServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_segment_unary(client: Any) -> None:
    t = plans.sample()["x"]
    result = client.infer("s1", [given("t", t)], request_id="seven")
    np.testing.assert_allclose(result.as_numpy("kept"), 3 * t, rtol=1e-6)
    np.testing.assert_allclose(result.as_numpy("u"), 5 * t, rtol=1e-6)
    assert result.get_response().id == "seven"
    only = client.infer("s1", [given("t", t)], outputs=[triton.InferRequestedOutput("u")])
    assert only.as_numpy("kept") is None
    np.testing.assert_allclose(only.as_numpy("u"), 5 * t, rtol=1e-6)


def test_segments_by_stream(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for row in range(5):
        t = np.full((1, 64), row, dtype=np.float32)
        client.async_stream_infer("s1", [given("t", t)], request_id=str(row))
    for row in range(5):
        result, error = answers.get(timeout=10)
        assert error is None
        assert result.get_response().id == str(row)
        np.testing.assert_allclose(result.as_numpy("u"), np.full((1, 64), 5 * row))
    client.async_stream_infer("s1", [given("t", np.zeros((1, 63), np.float32))])
    result, error = answers.get(timeout=10)
    assert "must have shape (N, 64), but (1, 63) was given" in str(error)
    client.async_stream_infer("s1", [given("t", np.zeros((1, 64), np.float32))])
    assert answers.get(timeout=10)[1] is None, "the stream goes on after a refused request"
    client.stop_stream()


def test_a_whole_call_with_what_the_server_holds(client: Any, server: HostServer) -> None:
    t = plans.sample()["x"]
    first = client.infer("c1", [given("t", t)], request_id="a")
    np.testing.assert_allclose(first.as_numpy("u"), 5 * t, rtol=1e-6)
    second = client.infer("c2", [given("v", t)], request_id="a")
    np.testing.assert_allclose(second.as_numpy("y"), 4 * t, rtol=1e-6)
    with pytest.raises(InferenceServerException, match="does not hold tensor 'kept'") as caught:
        client.infer("c2", [given("v", t)], request_id="b")
    assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"
    with pytest.raises(InferenceServerException, match="give the request an id"):
        client.infer("c2", [given("v", t)])


@pytest.mark.parametrize(
    ("model", "tensors", "outputs", "status", "sentence"),
    [
        ("s9", [("t", (2, 64), "FP32")], [], "NOT_FOUND", "no model on host 'server' named 's9'"),
        ("s1", [("T", (2, 64), "FP32")], [], "INVALID_ARGUMENT", "no input named 'T'"),
        ("s1", [], [], "INVALID_ARGUMENT", "input 't' is missing"),
        ("s1", [("t", (2, 65), "FP32")], [], "INVALID_ARGUMENT", "must have shape (N, 64)"),
        ("s1", [("t", (64,), "FP32")], [], "INVALID_ARGUMENT", "must have shape (N, 64)"),
        ("s1", [("t", (2, 64), "FP64")], [], "INVALID_ARGUMENT", "float64 was given"),
        ("s1", [("t", (2, 64), "INT32")], [], "INVALID_ARGUMENT", "int32 was given"),
        ("s1", [("t", (2, 64), "FP32")], ["z"], "INVALID_ARGUMENT", "no output named 'z'"),
    ],
)
def test_wrong_requests(
    client: Any, model: str, tensors: Any, outputs: Any, status: str, sentence: str
) -> None:
    numpy_of = {"FP32": np.float32, "FP64": np.float64, "INT32": np.int32}
    inputs = [given(name, np.zeros(shape, numpy_of[d]), d) for name, shape, d in tensors]
    wanted = [triton.InferRequestedOutput(name) for name in outputs] or None
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs, outputs=wanted)
    assert caught.value.status() == f"StatusCode.{status}"
    assert sentence in caught.value.message()
    assert "\n" not in caught.value.message()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_type(dtype: str, tmp_path: Path) -> None:
    samples: dict[str, np.ndarray[Any, Any]] = {
        "float32": np.array([[1.5, -2, np.inf]], np.float32),
        "float16": np.array([[1.5, -2, 65504]], np.float16),
        "int64": np.array([[1, -(2**62), 3]], np.int64),
        "int8": np.array([[1, -128, 127]], np.int8),
        "bool": np.array([[True, False, True]]),
        "string": np.array([["a", "", "größer"]], dtype=object),
    }
    array = samples[dtype]
    with (
        HostServer(write_bundle(tmp_path, passing(dtype)), "server") as server,
        triton.InferenceServerClient(server.address) as client,
    ):
        result = client.infer("s1", [given("t", array, DTYPES[dtype])]).as_numpy("y")
    if dtype == "string":
        result = np.array([[text.decode() for text in row] for row in result], dtype=object)
    np.testing.assert_array_equal(result, np.concatenate([array, array]))


def test_bfloat16_crosses_the_wire() -> None:
    from partc.runtime.models import ModelRequest
    from partc.runtime.wire.messages import decode_request, encode_request

    array = np.array([[1.5, -2.0, 3e38]], dtype=ml_dtypes.bfloat16)
    message = encode_request(ModelRequest("s1", "", {"t": array}))
    decoded = decode_request(message).tensors["t"]
    assert decoded.dtype == ml_dtypes.bfloat16
    assert decoded.tobytes() == array.tobytes()
    parsed = triton.service_pb2.ModelInferRequest.FromString(message)
    assert parsed.inputs[0].datatype == "BF16"


def test_typed_contents_instead_of_raw(server: HostServer) -> None:
    pb = triton.service_pb2
    request = pb.ModelInferRequest(model_name="s1")
    tensor = request.inputs.add(name="t", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(range(64))
    with grpc.insecure_channel(server.address) as channel:
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=5)
        u = np.frombuffer(answer.raw_output_contents[1], np.float32)
        np.testing.assert_allclose(u, 5.0 * np.arange(64))
        tensor.contents.fp32_contents.append(1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "65 elements" in caught.value.details()


def test_many_clients_at_once(server: HostServer) -> None:
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            with triton.InferenceServerClient(server.address) as client:
                for turn in range(10):
                    t = plans.sample(seed=10 * seed + turn)["x"]
                    u = client.infer("s1", [given("t", t)]).as_numpy("u")
                    np.testing.assert_allclose(u, 5 * t, rtol=1e-6)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
