"""Models on their way to a node: all of them arrive, and none makes the node read its own files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from partc.agent.packing import SMALLEST_PART_BYTES, pack, pieces_named_in, unpack
from partc.errors import RequestError
from tests.support.nasty_models import NASTY
from tests.support.random_graphs import RandomModel, onnx_models


@given(onnx_models())
@settings(max_examples=40, deadline=None)
def test_a_model_arrives_as_it_was(drawn: RandomModel) -> None:
    check_arrival(drawn.model)


def check_arrival(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    packed = pack(model)
    assert model.SerializeToString(deterministic=True) == before
    for digest, piece in packed.pieces.items():
        assert hashlib.sha256(piece).hexdigest() == digest
    arrived = unpack(packed.pieces[packed.digest], packed.pieces.__getitem__)
    assert arrived.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_model_arrives_as_it_was(name: str) -> None:
    check_arrival(NASTY[name]().model)


def with_weight(value: onnx.TensorProto) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", value.name], ["y"], name="add")],
        "one",
        [info("x", TensorProto.FLOAT, [1 << 16])],
        [info("y", TensorProto.FLOAT, [1 << 16])],
        [value],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_large_weights_travel_by_themselves() -> None:
    weight = onnx.numpy_helper.from_array(np.arange(1 << 16, dtype=np.float32), "w")
    packed = pack(with_weight(weight))
    graph = packed.pieces[packed.digest]
    assert len(graph) < SMALLEST_PART_BYTES
    (named,) = pieces_named_in(graph)
    assert packed.pieces[named] == weight.raw_data
    assert unpack(graph, packed.pieces.__getitem__) == with_weight(weight)


def external(location: str) -> onnx.TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 16])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return weight


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "weights.data", ""])
def test_a_weight_in_a_file_of_the_node(location: str) -> None:
    graph = with_weight(external(location)).SerializeToString()
    with pytest.raises(RequestError, match="in a file"):
        unpack(graph, lambda digest: b"")


def hidden(tensor: onnx.TensorProto) -> dict[str, onnx.ModelProto]:
    """The same weight, where it is less easy to see."""
    info = helper.make_tensor_value_info
    plain = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "w")
    in_constant, in_body, in_function = (with_weight(plain) for _ in range(3))
    in_constant.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    body = helper.make_graph([], "body", [], [info("w", TensorProto.FLOAT, None)], [tensor])
    branch = helper.make_node("If", ["x"], ["z"], then_branch=body, else_branch=body)
    in_body.graph.node.append(branch)
    deep = helper.make_graph([branch], "deep", [], [info("z", TensorProto.FLOAT, None)])
    in_function.functions.append(
        helper.make_function(
            "own", "F", ["x"], ["z"],
            [helper.make_node("If", ["x"], ["z"], then_branch=deep, else_branch=deep)],
            [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    return {"constant": in_constant, "body": in_body, "function": in_function}


@pytest.mark.parametrize("where", ["constant", "body", "function"])
def test_a_weight_in_a_file_that_hides(where: str) -> None:
    graph = hidden(external("/etc/passwd"))[where].SerializeToString()
    with pytest.raises(RequestError, match="in a file"):
        unpack(graph, lambda digest: b"")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_model_or_refused(data: bytes) -> None:
    try:
        unpack(data, lambda digest: b"")
    except RequestError as error:
        assert str(error)


def test_a_piece_that_was_never_sent(tmp_path: Path) -> None:
    from partc.agent.blobs import BlobStore

    blobs = BlobStore(tmp_path, 1 << 20)
    for name in ("0" * 64, "../../etc/passwd", "A" * 64, "", "0" * 63 + "\n"):
        with pytest.raises(RequestError, match=r"SHA-256"):
            blobs.path(name)
