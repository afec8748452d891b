"""What the real parser refuses, op by op."""

from __future__ import annotations

import onnx
import pytest

from partc.targets.tensorrt.known_ops import WITHOUT_IMPLEMENTATION
from partc.targets.tensorrt_rtx import BACKEND
from tests.support.engines import needs_builder

pytestmark = needs_builder()


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "my" : 1]> '
    model = onnx.parser.parse_model(header + text)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def test_an_ordinary_model_is_accepted() -> None:
    assert (
        BACKEND.unsupported(parsed("g (float[2,3] x) => (float[2,3] y) {a = Relu(x) y = Exp(a)}"))
        == {}
    )


def test_an_op_without_an_implementation_is_named() -> None:
    text = "g (float[2,3,3] x) => (float[2] y) {a = Relu(x) b = Det(a) y = Exp(b)}"
    assert BACKEND.unsupported(parsed(text)) == {
        "Det_1": "TensorRT-RTX has no implementation of Det"
    }


def test_an_unknown_op_is_named() -> None:
    text = "g (float[2] x) => (float[2] y) {a = Relu(x) y = my.Foo(a)}"
    assert BACKEND.unsupported(parsed(text)) == {
        "Foo_1": "TensorRT-RTX knows no op 'Foo', and no plugin has that name"
    }


def test_all_of_several_are_named_even_one_behind_the_other() -> None:
    text = "g (float[2,3,3] x) => (float[2] y) {a = Det(x) b = Relu(a) c = my.Foo(b) y = my.Bar(c)}"
    assert set(BACKEND.unsupported(parsed(text))) == {"Det_0", "Foo_2", "Bar_3"}


def test_what_follows_from_a_refusal_is_none_of_its_own() -> None:
    """The parser then knows no shape of what the refused op gives, and complains of its readers."""
    model = parsed("""g (float[1,4,8,8] x, float[4,4,3,3] w) => (float[1,4,8,8] y) {
        h = Cast <to = 10> (x) v = Cast <to = 10> (w) m = MeanVarianceNormalization(h)
        c = Conv <pads = [1,1,1,1]> (m, v) n = MeanVarianceNormalization(c) y = Cast <to = 1> (n)
    }""")
    known = onnx.helper.make_tensor_value_info("m", onnx.TensorProto.FLOAT16, [1, 4, 8, 8])
    model.graph.value_info.append(known)  # as inference does not tell it
    names = {"MeanVarianceNormalization_2", "MeanVarianceNormalization_4"}
    assert set(BACKEND.unsupported(model)) == names


@pytest.mark.parametrize("kind", ["double", "string", "uint16", "complex64"])
def test_ops_on_types_that_an_engine_would_change_are_refused(kind: str) -> None:
    text = (
        f"g ({kind}[2] x, float[2] z) => ({kind}[2] y, float[2] w) {{y = Identity(x) w = Exp(z)}}"
    )
    refused = BACKEND.unsupported(parsed(text))
    assert set(refused) == {"Identity_0"}
    assert "which TensorRT-RTX does not compute in" in refused["Identity_0"]


def test_a_body_counts_for_the_op_around_it() -> None:
    text = """g (bool c, float[2,3,3] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) {a = Det(x)},
            else_branch = e () => (float[2] b) {b = ReduceSum <keepdims = 0> (x)}
        >
    }"""
    assert set(BACKEND.unsupported(parsed(text, opset=11))) == {"If_0"}


def test_asking_twice_gives_the_same() -> None:
    model = parsed("g (float[2,3,3] x) => (float[2] y) {y = Det(x)}")
    assert BACKEND.unsupported(model) == BACKEND.unsupported(model)


def test_the_list_for_machines_without_a_parser_is_this_parsers() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(1), logger)
    standard = {each.name for each in onnx.defs.get_all_schemas() if each.domain == ""}
    refused = {name for name in standard if not parser.supports_operator(name)}
    assert refused == WITHOUT_IMPLEMENTATION & standard


BOXES = """g (float[1,4,4] b, float[1,1,4] s) => (int64[M,3] y) <int64 k = {3}, float t = {0.5}> {
    a = Relu(b) y = NonMaxSuppression(a, s, k, t)
}"""


def test_an_output_whose_shape_depends_on_values_is_refused_though_it_is_parsed() -> None:
    found = BACKEND.unsupported(parsed(BOXES))
    assert set(found) == {"NonMaxSuppression_1"}
    assert "depends on values" in found["NonMaxSuppression_1"]
