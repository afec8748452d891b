"""Which shapes depend on values, and which ops no engine can therefore hold."""

from __future__ import annotations

import onnx
import pytest

from partc.targets.tensorrt.supports import listed
from partc.targets.tensorrt.value_shapes import never_given, value_shapes

NON_ZERO = {"NonZero_1"}
CASES = {
    "given as it is": ("(float[2,3] x) => (int64[2,M] y) {a = Relu(x) y = NonZero(a)}", NON_ZERO),
    "given after other ops": (
        "(float[2,3] x) => (float[M] y) {a = Relu(x) b = NonZero(a) c = Transpose(b) "
        "y = GatherND(a, c)}",
        NON_ZERO,
    ),
    "fixed again": (
        "(float[2,3] x) => (int64[2] y) {a = Relu(x) b = NonZero(a) "
        "y = ReduceMax <axes = [1], keepdims = 0> (b)}",
        set(),
    ),
    "fixed again in the middle": (
        "(float[2,3] x) => (int64[A] y) {a = Relu(x) b = NonZero(a) "
        "c = ReduceMax <axes = [1], keepdims = 0> (b) y = Neg(c)}",
        set(),
    ),
    "scattered into a tensor with an open dimension": (
        "(float[N,3] x, float[M] v) => (float[N,3] y) {a = Relu(x) b = NonZero(a) "
        "c = Transpose(b) y = ScatterND(x, c, v)}",
        set(),
    ),
    "its shape is given": (
        "(float[2,3] x) => (int64[2] y) {a = Relu(x) b = NonZero(a) y = Shape(b)}",
        set(),
    ),
    "its shape makes a shape": (
        "(float[2,3] x) => (float[A,B] y) {a = Relu(x) b = NonZero(a) s = Shape(b) "
        "y = ConstantOfShape(s)}",
        {"ConstantOfShape_3"},
    ),
    "open dimensions are no values": (
        "(float[N,6] x) => (float[A,B] y) <int64[1] m = {-1}> {s = Shape <start=0, end=1> (x) "
        "t = Concat <axis = 0> (m, s) y = Reshape(x, t)}",
        set(),
    ),
    "a shape that is an input": (
        "(float[6] x, int64[2] s) => (float[A,B] y) {a = Relu(x) y = Reshape(a, s)}",
        {"Reshape_1"},
    ),
    "a number that is an input": (
        "(float[2,9] x, int64[1] k) => (float[2,M] y, int64[2,M] i) {a = Relu(x) "
        "y, i = TopK(a, k)}",
        {"TopK_1"},
    ),
    "of a weight alone": (
        "(float[2,3] x) => (int64[A,B] y) <float[2] w = {0, 1}> {a = Relu(x) y = NonZero(w)}",
        set(),
    ),
    "two of them": (
        "(float[2,3] x) => (int64[2,M] y, int64[2,M] z) {a = Relu(x) y = NonZero(a) b = Neg(y) "
        "z = NonZero(b)}",
        {"NonZero_1", "NonZero_3"},
    ),
}


def parsed(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


@pytest.mark.parametrize("case", CASES)
def test_what_no_engine_can_hold(case: str) -> None:
    text, refused = CASES[case]
    found = never_given(parsed(text), "TensorRT")
    assert set(found) == refused
    for op, reason in found.items():
        assert reason.startswith(f"the shape of what {op.split('_')[0]} gives depends on values")
    assert set(listed(parsed(text), "TensorRT")) == refused


def test_the_ops_behind_a_tensor_are_named() -> None:
    model = parsed("(float[2,3] x) => (int64[M,2] y) {a = Relu(x) b = NonZero(a) y = Transpose(b)}")
    found = value_shapes(model)
    assert found.behind(["y"]) == {"NonZero_1": "NonZero"}
    assert found.behind(["a", "x", "nothing"]) == {}


def test_another_reason_goes_before() -> None:
    model = parsed("(float[2,3] x, bool[2] c) => (float[M,3] y) {y = Compress <axis = 0> (x, c)}")
    assert listed(model, "TensorRT") == {"Compress_0": "TensorRT has no implementation of Compress"}
