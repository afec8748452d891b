"""A lower precision in a graph: valid, of the same types outside, and as lossy as it is."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from partc.measure.loss import output_loss
from partc.passes.build.lowering import Low, lowered, narrowed
from partc.targets.onnxruntime.quantize import quantised
from partc.targets.reference import open_reference
from tests.support.nasty_models import floats
from tests.support.random_graphs import RandomModel, onnx_models

CONV = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Softmax(f)
}"""


def model_of(text: str, **weights: Any) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    return model


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    with open_reference(model) as runner:
        return runner.run(feeds)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_a_network_computes_in_fp16_and_its_edges_do_not() -> None:
    model = model_of(CONV, w=floats(4, 3, 3, 3))
    found = lowered(model, "fp16")
    assert (found.ops, found.float_ops) == (5, 5)
    onnx.checker.check_model(found.model, full_check=True)
    types = types_of(found.model)
    assert types["x"] == types["y"] == onnx.TensorProto.FLOAT
    assert types["c_fp16"] == types["p_fp16"] == onnx.TensorProto.FLOAT16
    assert [n.op_type for n in found.model.graph.node].count("Cast") == 2
    assert found.model.ByteSize() < model.ByteSize()
    feeds = {"x": floats(1, 3, 8, 8, seed=1)}
    assert 0 < output_loss(run(found.model, feeds), run(model, feeds)) < 5e-3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_emulation_rounds_as_the_real_thing(precision: Low) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) {a = Add(x, w) y = Relu(a)}"""
    values, weight = floats(64, seed=2), floats(1, seed=3)
    kind = np.float16 if precision == "fp16" else ml_dtypes.bfloat16
    emulated = lowered(model_of(text, w=weight), precision, emulated=True).model
    low = values.astype(kind).astype(np.float32) + weight.astype(kind).astype(np.float32)
    expected = np.maximum(low.astype(kind).astype(np.float32), 0)
    np.testing.assert_array_equal(run(emulated, {"x": values})["y"], expected)


def test_bf16_where_the_schema_allows_it() -> None:
    assert lowered(model_of(CONV, w=floats(4, 3, 3, 3)), "bf16").ops < 5
    newer = model_of(CONV.replace("17", "22"), w=floats(4, 3, 3, 3))
    found = lowered(newer, "bf16")
    assert found.ops == 5
    onnx.checker.check_model(found.model, full_check=True)


def test_what_must_stay_exact_stays_float32() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x, int64[2] i) => (float[1,1,N,M] y, float[2] z) {
            y = Resize <mode = "nearest"> (x, roi, scales)
            f = Cast <to = 1> (i)
            z = Cast <to = 1> (i)
        }"""
    model = model_of(text, roi=np.zeros(0, np.float32), scales=np.array([1, 1, 2, 2], np.float32))
    found = lowered(model, "fp16").model
    onnx.checker.check_model(found, full_check=True)
    assert {w.name: w.data_type for w in found.graph.initializer}["scales"] == 1
    feeds = {"x": np.ones((1, 1, 4, 4), np.float32), "i": np.array([2**20 + 1, 7])}
    assert run(found, feeds)["z"].tolist() == [2**20 + 1, 7]


def test_bodies_read_what_they_captured_as_it_was() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[4] x) => (float[4] y) {
            a = Mul(x, w)
            b = If (c) <
                then_branch = t () => (float[4] u) {u = Add(a, a)},
                else_branch = e () => (float[4] v) {v = Mul(a, w)}
            >
            y = Relu(b)
        }"""
    model = model_of(text, w=floats(4))
    found = lowered(model, "fp16").model
    onnx.checker.check_model(found)
    for c in (True, False):
        feeds = {"c": np.array(c), "x": floats(4, seed=4)}
        assert output_loss(run(found, feeds), run(model, feeds)) < 5e-3


def test_an_input_handed_on_and_a_tensor_read_twice() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] a, float[4] y) {a = Neg(x) y = Add(a, x)}"""
    found = lowered(model_of(text), "fp16").model
    onnx.checker.check_model(found, full_check=True)
    assert len({name for node in found.graph.node for name in node.output}) == sum(
        len(node.output) for node in found.graph.node
    )
    assert set(run(found, {"x": floats(4)})) == {"a", "y"}


def test_names_that_are_taken_are_not_given_again() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] y) {x_fp16 = Neg(x) y_cast = Neg(x_fp16) y = Add(y_cast, x)}"""
    found = lowered(model_of(text), "fp16").model
    onnx.checker.check_model(found, full_check=True)


def test_numbers_that_fp16_cannot_hold() -> None:
    values = np.array([1e9, -1e9, 1e-12, -1e-12, 0, np.inf, -np.inf, np.nan, 1], np.float32)
    low = narrowed(values, "fp16").tolist()
    assert low[:2] == [65504.0, -65504.0]
    assert low[2] > 0 > low[3]
    assert low[4:7] == [0, np.inf, -np.inf]
    assert np.isnan(low[7])
    assert low[8] == 1


@settings(max_examples=40, deadline=None)
@given(onnx_models())
def test_onnx_models_stay_valid_and_keep_their_types(drawn: RandomModel) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(drawn.model)
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    expected = run(model, drawn.feeds)
    for emulated in (False, True):
        found = lowered(model, "fp16", emulated=emulated).model
        onnx.checker.check_model(found)
        actual = run(found, drawn.feeds)
        assert {n: (a.dtype, a.shape) for n, a in actual.items()} == {
            n: (a.dtype, a.shape) for n, a in expected.items()
        }


class TestInt8:
    def test_products_are_quantised_symmetrically_and_keep_their_names(self) -> None:
        model = model_of(CONV, w=floats(4, 3, 3, 3))
        feeds = [{"x": floats(1, 3, 8, 8, seed=seed)} for seed in range(4)]
        found = quantised(model, feeds)
        onnx.checker.check_model(found, full_check=True)
        assert {node.name for node in model.graph.node} <= {node.name for node in found.graph.node}
        for weight in found.graph.initializer:
            if "zero_point" in weight.name:
                assert weight.data_type == onnx.TensorProto.INT8
                assert not onnx.numpy_helper.to_array(weight).any()
        assert output_loss(run(found, feeds[0]), run(model, feeds[0])) < 0.05

    def test_the_same_twice(self) -> None:
        model = model_of(CONV, w=floats(4, 3, 3, 3))
        feeds = [{"x": floats(1, 3, 8, 8)}]
        one, other = quantised(model, feeds), quantised(model, feeds)
        assert one.SerializeToString() == other.SerializeToString()

    def test_a_model_without_products_stays_as_it_is(self) -> None:
        text = """<ir_version: 8, opset_import: ["" : 17]>
            g (float[4] x) => (float[4] y) {y = Relu(x)}"""
        model = model_of(text)
        assert quantised(model, [{"x": floats(4)}]) is model
