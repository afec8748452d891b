"""fold-constants: the same answers from fewer ops, and nothing folded that should stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from onnx import TensorProto, helper

from partc.ir.program import Program
from partc.passes.contract import Context
from partc.passes.ingest.fold_constants import FoldConstants
from partc.passes.ingest.infer_shapes import InferShapes
from partc.passes.ingest.read_model import read_model
from tests.support.nasty_models import NASTY, floats, made, parsed
from tests.support.oracle import Array, assert_same, run_whole
from tests.support.placements import TWO_HOSTS
from tests.support.random_graphs import RandomModel, onnx_models

CONTEXT = Context(TWO_HOSTS)


def folded(
    model: onnx.ModelProto, sample: dict[str, Array] | None = None, max_mib: float = 16.0
) -> Program:
    program = InferShapes().run(read_model(model, sample=sample), CONTEXT).program
    return FoldConstants(max_mib=max_mib).run(program, CONTEXT).program


def op_types(program: Program) -> list[str]:
    return [op.op_type for op in program.ops]


@settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(example=onnx_models(repeat_names=True))
def test_random_models_answer_the_same(example: RandomModel) -> None:
    program = folded(example.model, example.feeds)
    onnx.checker.check_model(program.model)
    whole = run_whole(example.model, example.feeds)
    assert_same(run_whole(program.model, example.feeds), whole)
    again = FoldConstants().run(program, CONTEXT)
    assert not again.modified, "folding once is enough"
    assert again.program is program


@pytest.mark.parametrize("name", NASTY)
def test_nasty_models_answer_the_same(name: str) -> None:
    example = NASTY[name]()
    program = folded(example.model, example.feeds)
    whole = run_whole(example.model, example.feeds)
    assert_same(run_whole(program.model, example.feeds), whole)


@pytest.mark.parametrize("op_type", ["RandomNormal", "RandomUniform"])
def test_random_numbers_are_drawn_anew_each_time(op_type: str) -> None:
    nodes = [
        helper.make_node(op_type, [], ["r"], shape=[2, 3]),
        helper.make_node("Neg", ["r"], ["n"]),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    kind = (TensorProto.FLOAT, (2, 3))
    program = folded(made(nodes, {"x": kind}, {"y": kind}, {}).model)
    assert op_types(program) == [op_type, "Neg", "Add"]
    assert not program.constant_tensors


def test_random_numbers_inside_of_a_body_are_not_folded() -> None:
    graph = """g (float[2] x) => (float[2] y) <bool yes = {1}> {
        r = If (yes) <
          then_branch = t () => (float[2] u) { u = RandomNormal <shape = [2]> () },
          else_branch = e () => (float[2] v) { v = RandomUniform <shape = [2]> () }>
        y = Add(x, r)
    }"""
    assert "If" in op_types(folded(parsed(graph, {}).model))


def test_stored_eight_bit_weights_stay_small() -> None:
    example = NASTY["quantised convolution"]()
    program = folded(example.model, example.feeds)
    assert program.weights["w"] == 8 * 3 * 3 * 3
    assert op_types(program).count("DequantizeLinear") == 3
    dequantised = program.producer["wd"]
    assert dequantised.is_constant, "each host that needs it computes it anew"


def test_a_large_constant_stays_an_op_and_never_crosses() -> None:
    example = NASTY["large constant that hosts compute anew"]()
    program = folded(example.model, example.feeds)
    assert "ConstantOfShape" in op_types(program)
    assert program.producer["c"].is_constant
    assert program.producer["d"].is_constant
    small = folded(example.model, example.feeds, max_mib=100)
    assert "ConstantOfShape" not in op_types(small)


def test_what_is_small_behind_a_large_constant_is_folded() -> None:
    graph = """g (float[1] x) => (float[1] y) <int64[1] big = {6000000}> {
        c = ConstantOfShape (big) s = ReduceSum(c) t = Exp(s) y = Add(x, t) }"""
    program = folded(parsed(graph, {}).model)
    assert all(op.is_constant for op in program.ops[:-1])


def test_the_shape_of_a_static_tensor_is_folded_with_all_that_follows() -> None:
    graph = """g (float[2,3,4] x) => (float[2,12] y) <int64[1] rest = {-1}> {
        a = Relu(x) s = Shape <start = 0, end = 1> (a) t = Concat <axis=0> (s, rest)
        y = Reshape(a, t) }"""
    assert op_types(folded(parsed(graph, {}).model)) == ["Relu", "Reshape"]


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ("", [2, 3, 4]),
        ("<start = 1>", [3, 4]),
        ("<end = -1>", [2, 3]),
        ("<start=-2, end=9>", [3, 4]),
    ],
)
def test_a_slice_of_a_shape_is_folded_rightly(ends: str, wanted: list[int]) -> None:
    graph = f"""g (float[2,3,4] x) => (int64[n] y, float[2,3,4] z) {{
        s = Shape {ends} (x) y = Neg(s) z = Exp(x) }}"""
    example = parsed(graph, {})
    program = folded(example.model)
    (answer, _) = run_whole(program.model, {"x": floats(2, 3, 4)}).values()
    np.testing.assert_array_equal(answer, -np.array(wanted))


def test_the_shape_of_a_dynamic_tensor_stays() -> None:
    graph = "g (float[N,3] x) => (int64[2] y) {s = Shape(x) y = Neg(s)}"
    assert op_types(folded(parsed(graph, {}).model)) == ["Shape", "Neg"]


def test_a_declared_output_shape_that_is_too_narrow_does_not_freeze_the_batch() -> None:
    """Exporters write the traced shape of outputs beside a dynamic input."""
    graph = """g (float[N,3] x) => (float[1,3] a, float[M] y) <int64[1] flat = {-1}> {
        a = Relu(x) s = Shape(a) p = ReduceProd <keepdims=1> (s) b = Exp(a) y = Reshape(b, p) }"""
    program = folded(parsed(graph, {}).model)
    assert "Shape" in op_types(program)
    assert program.tensor("a").shape == ("N", 3)


def test_nothing_to_fold_is_no_change() -> None:
    program = (
        InferShapes()
        .run(read_model(parsed("g (float[2] x) => (float[2] y) {y = Exp(x)}", {}).model), CONTEXT)
        .program
    )
    result = FoldConstants().run(program, CONTEXT)
    assert not result.modified
    assert result.program is program
