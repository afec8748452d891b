"""What is refused where no parser can be asked."""

from __future__ import annotations

import onnx
import pytest

from partc.targets.tensorrt.known_ops import WITHOUT_IMPLEMENTATION
from partc.targets.tensorrt.supports import listed

TITLE = "TensorRT"


def parsed(text: str) -> onnx.ModelProto:
    header = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]> '
    model = onnx.parser.parse_model(header + text)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("g (float[2,3,3] x) => (float[2] y) {a = Relu(x) y = Det(a)}", {"Det_1"}),
        ("g (float[2] x) => (float[2] y) {a = my.Foo(x) y = Exp(a)}", {"Foo_0"}),
        ("g (double[2] x, float[2] z) => (double[2] y, float[2] w) {y = Neg(x) w = Neg(z)}",
         {"Neg_0"}),
        ("g (string[2] x) => (string[2] y) {y = Identity(x)}", {"Identity_0"}),
        ("g (float[2] x) => (float[2] y) {y = Relu(x)}", set()),
    ],
)  # fmt: skip
def test_types_and_ops(text: str, refused: set[str]) -> None:
    found = listed(parsed(text), TITLE)
    assert set(found) == refused
    assert all(reason.startswith(TITLE) or TITLE in reason for reason in found.values())


def test_bodies_count_for_the_op_around_them() -> None:
    text = """g (bool c, float[2,3,3] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) {a = Det(x)},
            else_branch = e () => (float[2] b) {b = Det(x)}
        >
    }"""
    assert listed(parsed(text), TITLE) == {"If_0": "TensorRT has no implementation of Det"}


def test_the_list_is_of_standard_ops() -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert standard > WITHOUT_IMPLEMENTATION - {"SwiGLU", "BitCast", "CumProd"}
