"""A Hypothesis strategy for valid ONNX models of a few ops, each with a sample input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from onnx import TensorProto, helper

from tests.support import control_recipes as control
from tests.support import layer_recipes as layers
from tests.support import structure_recipes as structure
from tests.support.graph_draft import FLOAT, IR_VERSION, OPSET, Array, GraphDraft, Value

Recipe = Callable[[GraphDraft], bool]

RECIPES: tuple[tuple[Recipe, int, int], ...] = (
    # the most ops that one use adds, and how often it is offered
    (layers.unary, 1, 2),
    (layers.combine, 1, 3),
    (layers.combine_with_weight, 1, 1),
    (layers.conv, 1, 4),
    (layers.clip, 1, 2),
    (structure.concat, 1, 2),
    (structure.split, 1, 2),
    (control.conditional, 1, 2),
    (control.loop, 1, 1),
    (structure.cast, 1, 2),
    (structure.where, 2, 1),
    (layers.pool, 1, 2),
    (layers.global_pool, 1, 1),
    (layers.batch_normalization, 1, 1),
    (layers.add_many, 1, 1),
    (layers.matmul, 2, 1),
    (layers.matmul_with_itself, 2, 1),
    (layers.gemm, 1, 2),
    (layers.softmax, 1, 1),
    (layers.reduce_mean, 1, 1),
    (structure.transpose, 1, 1),
    (structure.reshape, 1, 1),
    (structure.gather, 1, 1),
    (structure.constant, 1, 1),
    (structure.weight_only, 2, 1),
    (structure.truncate, 3, 1),
    (structure.shape_chain, 4, 1),
)

TENSOR_PATTERNS = ("t{}", "/block.{}/out_0", "scope/tensor:{}", "a tensor {}")


@dataclass(frozen=True)
class RandomModel:
    """A model that passes the checker and runs, and values for its inputs."""

    model: onnx.ModelProto
    feeds: dict[str, Array]

    def __str__(self) -> str:
        """The graph as text; weights are left out where they are large."""
        shapes = {name: f"{value.dtype}{list(value.shape)}" for name, value in self.feeds.items()}
        return f"{onnx.printer.to_text(self.model)}\nfeeds: {shapes}"

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        """What Hypothesis prints for a failing example."""
        printer.text(str(self))


@st.composite
def onnx_models(
    draw: st.DrawFn, *, min_ops: int = 3, max_ops: int = 15, repeat_names: bool = False
) -> RandomModel:
    """Valid models with `min_ops` to `max_ops` top-level ops, and a sample input for each.

    They mix what a partitioner has to get right: tensors with many readers, outputs that are
    also read, ops with several outputs or without inputs, subexpressions of weights only,
    integers and booleans, If and Loop bodies that read outer tensors and weights, missing optional
    inputs and unnamed nodes. With `repeat_names` several nodes may have one name, which the
    checker accepts but ONNX Runtime does not; `run_whole` runs such models all the same.

    Values stay small, and nothing that rounding decides is truncated, so two correct ways of
    running a model agree to within `tests.support.oracle.assert_same`.
    """
    g = GraphDraft(
        draw,
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        tensor_pattern=draw(st.sampled_from(TENSOR_PATTERNS)),
        dynamic_batch=draw(st.booleans()),
        repeat_names=repeat_names,
    )
    _add_inputs(g)
    count = g.draw_int(min_ops, max_ops)
    while len(g.nodes) < count:
        left = count - len(g.nodes)
        recipe = g.choose(
            [recipe for recipe, most, share in RECIPES if most <= left for _ in range(share)]
        )
        if not recipe(g):
            layers.unary(g)
    return RandomModel(_finish(g), g.feeds)


def _add_inputs(g: GraphDraft) -> None:
    """One to three inputs: an image, rows, a sequence, whole numbers; not all need a reader."""
    batch = g.choose((1, 2))
    kinds = [g.choose(("image", "image", "rows", "sequence"))]
    kinds += [g.choose(("rows", "image", "whole")) for _ in range(g.choose((0, 0, 1, 2)))]
    for kind in kinds:
        shapes = {"image": (batch, g.choose((1, 2, 3)), 5, 4), "rows": (batch, 4)}
        shape = shapes.get(kind, (batch, 3, 4))
        if kind == "whole":
            numbers = g.rng.integers(-3, 4, shape)
            g.input(TensorProto.INT64, shape, numbers, bound=3.0)
        else:
            g.input(FLOAT, shape, g.rng.uniform(-1, 1, shape), bound=1.0)


def _finish(g: GraphDraft) -> onnx.ModelProto:
    """Choose the outputs and close the model."""
    made = {name for node in g.nodes for name in node.output}
    read = {name for node in g.nodes for name in node.input}
    computed = [value for value in g.values if value.name in made]
    outputs = [v for v in computed if v.name not in read and not g.chance(5)]
    outputs += [v for v in computed if v.name in read and g.chance(8)]
    if not outputs:
        outputs = [computed[-1]]
    if g.draw(st.booleans()):
        outputs.reverse()
    declared = [
        helper.make_tensor_value_info(v.name, v.dtype, _declared_shape(g, v)) for v in outputs
    ]

    inputs = list(g.inputs)
    if g.initializers and g.chance(8):
        weight = g.choose(g.initializers)
        declared.append(_declaration_of(weight))
    if g.initializers and g.chance(8):
        inputs.append(_declaration_of(g.choose(g.initializers)))
    graph = helper.make_graph(g.nodes, "random", inputs, declared, initializer=g.initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def _declared_shape(g: GraphDraft, value: Value) -> list[int | None]:
    """The shape, with every dimension left open where the batch is."""
    return [None if g.dynamic_batch else side for side in value.shape]


def _declaration_of(weight: onnx.TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
