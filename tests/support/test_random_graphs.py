"""Random models are valid, run, have one answer, and contain what a partitioner must get right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, Phase, given, settings
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.support.oracle import Array, assert_same, run_whole
from tests.support.random_graphs import RandomModel, onnx_models

REPEATABLE = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)

OP_TYPES = (
    "Abs Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv Gather "
    "Gemm GlobalAveragePool Greater Identity If Loop MatMul MaxPool Mul Neg ReduceMean Relu "
    "Reshape Shape Sigmoid Softmax Split Sum Tanh Transpose Where"
)


@cache
def examples() -> tuple[RandomModel, ...]:
    """Enough models that the counts below are far from their limits whatever is drawn."""
    collected: list[RandomModel] = []

    @settings(REPEATABLE, max_examples=500)
    @given(onnx_models())
    def collect(example: RandomModel) -> None:
        collected.append(example)

    collect()
    return tuple(collected)


@REPEATABLE
@given(onnx_models())
def test_models_are_valid_and_two_runtimes_agree(example: RandomModel) -> None:
    onnx.checker.check_model(example.model, full_check=True)
    actual = run_whole(example.model, example.feeds)
    assert_same(actual, run_otherwise(example))
    for values in actual.values():
        assert values.dtype.kind != "f" or np.isfinite(values).all()


def run_otherwise(example: RandomModel) -> dict[str, Array]:
    """The answer of onnx's own evaluator, which shares no code with ONNX Runtime.

    Not for a Loop: that evaluator takes a missing condition for false and joins a Loop's rows
    where it should stack them. There ONNX Runtime without any optimisation has to do.
    """
    names = [output.name for output in example.model.graph.output]
    if any(node.op_type == "Loop" for node in example.model.graph.node):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = ort.InferenceSession(
            example.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return dict(zip(names, session.run(names, example.feeds), strict=True))
    answers = ReferenceEvaluator(example.model).run(None, example.feeds)
    return {name: np.asarray(value) for name, value in zip(names, answers, strict=True)}


@REPEATABLE
@given(onnx_models())
def test_returning_inner_tensors_does_not_change_the_answer(example: RandomModel) -> None:
    """A cut returns tensors that the whole model may have fused away."""
    answer = run_whole(example.model, example.feeds)
    inner = [name for node in example.model.graph.node for name in node.output]
    everything = run_whole(example.model, example.feeds, list(dict.fromkeys([*answer, *inner])))
    assert_same({name: everything[name] for name in answer}, answer)


@REPEATABLE
@given(onnx_models(min_ops=4, max_ops=7))
def test_the_number_of_ops_is_kept(example: RandomModel) -> None:
    assert 4 <= len(example.model.graph.node) <= 7


@REPEATABLE
@given(onnx_models(repeat_names=True))
def test_models_with_repeated_node_names_have_an_answer(example: RandomModel) -> None:
    onnx.checker.check_model(example.model, full_check=True)
    assert run_whole(example.model, example.feeds)


def test_every_op_type_occurs() -> None:
    counts = Counter(node.op_type for e in examples() for node in e.model.graph.node)
    assert set(counts) == set(OP_TYPES.split())
    assert min(counts.values()) >= 3, counts


def test_sizes_and_kinds_are_spread() -> None:
    sizes = [len(e.model.graph.node) for e in examples()]
    assert min(sizes) == 3
    assert max(sizes) == 15
    assert len(set(sizes)) >= 10
    assert sum(len(e.model.graph.input) > 1 for e in examples()) > 50
    assert sum(len(e.model.graph.output) > 1 for e in examples()) > 50
    assert sum(len(e.model.graph.output) == 1 for e in examples()) > 5
    kinds = {
        output.type.tensor_type.elem_type for e in examples() for output in e.model.graph.output
    }
    wanted = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL)
    assert kinds >= {*wanted, TensorProto.FLOAT16, TensorProto.DOUBLE}


def test_every_hard_feature_occurs() -> None:
    found = Counter(feature for e in examples() for feature in features(e.model))
    assert found.keys() >= FEATURES
    assert min(found.values()) >= 3, found


FEATURES = {
    "dynamic dimension",
    "If reads a tensor from outside",
    "If reads a weight from outside",
    "Loop reads a tensor from outside",
    "Loop reads a weight from outside",
    "If within an If",
    "input that nothing reads",
    "missing optional input",
    "op without inputs",
    "op on weights only",
    "output that is also read",
    "output that is an initializer",
    "part of a split that nothing reads",
    "tensor with three readers or more",
    "unnamed node",
    "weight listed as input",
}


def features(model: onnx.ModelProto) -> Iterator[str]:
    """The hard features that a model has."""
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in reads(node))

    if weights & outputs:
        yield "output that is an initializer"
    if weights & inputs:
        yield "weight listed as input"
    if any(readers[name] for name in outputs & made):
        yield "output that is also read"
    if any(not readers[name] for name in inputs):
        yield "input that nothing reads"
    if any(count >= 3 for name, count in readers.items() if name in made | inputs):
        yield "tensor with three readers or more"
    dims = [dim for value in graph.input for dim in value.type.tensor_type.shape.dim]
    if any(dim.dim_param for dim in dims):
        yield "dynamic dimension"
    for node in graph.node:
        yield from node_features(node, weights, made | inputs)
        if node.op_type == "Split" and any(
            not readers[name] and name not in outputs for name in node.output
        ):
            yield "part of a split that nothing reads"


def node_features(node: onnx.NodeProto, weights: set[str], others: set[str]) -> Iterator[str]:
    """The hard features of one node; `others` are the tensors that are not weights."""
    if not node.name:
        yield "unnamed node"
    if "" in node.input:
        yield "missing optional input"
    if not node.input:
        yield "op without inputs"
    elif set(node.input) <= weights:
        yield "op on weights only"
    inside = captures(node)
    if inside & weights:
        yield f"{node.op_type} reads a weight from outside"
    if inside & (others - weights):
        yield f"{node.op_type} reads a tensor from outside"
    if any(inner.op_type == "If" for body in bodies(node) for inner in body.node):
        yield "If within an If"


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    graphs = (a for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
    return [helper.get_attribute_value(attribute) for attribute in graphs]


def captures(node: onnx.NodeProto) -> set[str]:
    """What a node's bodies read; what they make themselves has names of its own."""
    return {name for body in bodies(node) for inner in body.node for name in reads(inner)}


def reads(node: onnx.NodeProto) -> set[str]:
    """Every tensor that a node reads, in its bodies too."""
    return set(node.input) | captures(node)
