"""Operations are counted right: by hand for single ops, by published totals for whole models."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from examples.models import MODELS
from partc.api import load
from partc.ir.program import Program
from partc.ir.tensor import TensorInfo
from partc.ir.topology import Topology
from partc.pipeline import Pipeline
from partc.targets.op_work import WorkKind, work_by_op

FLOAT = TensorProto.FLOAT
Shape = tuple[int, ...]


def program_of(
    node: onnx.NodeProto,
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    weights: dict[str, Shape] | None = None,
) -> Program:
    node.name = "op"
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [info(name, FLOAT, shape) for name, shape in inputs.items()],
        [info(name, FLOAT, shape) for name, shape in outputs.items()],
        [
            onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
            for name, shape in (weights or {}).items()
        ],
    )
    tensors = {
        name: TensorInfo(name, "float32", shape, shape)
        for name, shape in {**inputs, **outputs}.items()
    }
    return Program(model=onnx.helper.make_model(graph), tensors=tensors)


make = onnx.helper.make_node
CASES: dict[str, tuple[Program, float, WorkKind]] = {
    "convolution": (
        program_of(
            make("Conv", ["x", "w", "b"], ["y"]),
            {"x": (1, 3, 8, 8)},
            {"y": (1, 16, 6, 6)},
            {"w": (16, 3, 3, 3), "b": (16,)},
        ),
        16 * 6 * 6 * (2 * 27 + 1),
        "dense",
    ),
    "depthwise": (
        program_of(
            make("Conv", ["x", "w"], ["y"], group=8),
            {"x": (2, 8, 8, 8)},
            {"y": (2, 8, 6, 6)},
            {"w": (8, 1, 3, 3)},
        ),
        2 * 8 * 36 * 2 * 9,
        "depthwise",
    ),
    "grouped": (
        program_of(
            make("Conv", ["x", "w"], ["y"], group=2),
            {"x": (1, 8, 4, 4)},
            {"y": (1, 8, 4, 4)},
            {"w": (8, 4, 1, 1)},
        ),
        8 * 16 * 2 * 4,
        "dense",
    ),
    "transposed": (
        program_of(
            make("ConvTranspose", ["x", "w"], ["y"]),
            {"x": (1, 4, 5, 5)},
            {"y": (1, 6, 7, 7)},
            {"w": (4, 6, 3, 3)},
        ),
        2 * 100 * 6 * 9,
        "dense",
    ),
    "quantised": (
        program_of(
            make("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"]),
            {"x": (1, 3, 4, 4)},
            {"y": (1, 5, 4, 4)},
            {"w": (5, 3, 1, 1), "s": (), "z": ()},
        ),
        80 * 2 * 3,
        "dense",
    ),
    "product": (
        program_of(
            make("MatMul", ["x", "z"], ["y"]),
            {"x": (2, 4, 3, 5), "z": (2, 4, 5, 7)},
            {"y": (2, 4, 3, 7)},
        ),
        2 * 8 * 3 * 7 * 5,
        "dense",
    ),
    "affine": (
        program_of(
            make("Gemm", ["x", "w", "b"], ["y"], transA=1),
            {"x": (5, 3)},
            {"y": (3, 7)},
            {"w": (5, 7), "b": (7,)},
        ),
        21 * (2 * 5 + 1),
        "dense",
    ),
    "einsum": (
        program_of(
            make("Einsum", ["x", "z"], ["y"], equation="bij,bjk->bik"),
            {"x": (2, 3, 4), "z": (2, 4, 5)},
            {"y": (2, 3, 5)},
        ),
        2 * 2 * 3 * 4 * 5,
        "dense",
    ),
    "pooling": (
        program_of(
            make("MaxPool", ["x"], ["y"], kernel_shape=[3, 3]),
            {"x": (1, 2, 5, 5)},
            {"y": (1, 2, 3, 3)},
        ),
        18 * 9,
        "elementwise",
    ),
    "mean": (
        program_of(make("ReduceMean", ["x"], ["y"]), {"x": (2, 9)}, {"y": (1, 1)}),
        18,
        "elementwise",
    ),
    "addition": (
        program_of(make("Sum", ["x", "x", "x"], ["y"]), {"x": (4, 4)}, {"y": (4, 4)}),
        32,
        "elementwise",
    ),
    "unknown": (
        program_of(make("Whatever", ["x"], ["y"], domain="com.acme"), {"x": (3,)}, {"y": (3,)}),
        3,
        "elementwise",
    ),
    "copy": (
        program_of(make("Transpose", ["x"], ["y"]), {"x": (3, 4)}, {"y": (4, 3)}),
        0,
        "move",
    ),
    "lstm": (
        program_of(
            make("LSTM", ["x", "w", "r"], ["y"], hidden_size=5),
            {"x": (7, 2, 3)},
            {"y": (7, 1, 2, 5)},
            {"w": (1, 20, 3), "r": (1, 20, 5)},
        ),
        7 * 2 * (2 * (60 + 100) + 4 * 4 * 5),
        "recurrent",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_op(name: str) -> None:
    program, flops, kind = CASES[name]
    work = work_by_op(program)["op"]
    assert work.flops == pytest.approx(flops)
    assert work.kind == kind


# Multiplications and additions counted as two; twice the multiply-accumulates of the papers.
@pytest.mark.parametrize(
    ("name", "total"), [("mobilenetv2", 0.61e9), ("resnet50", 8.2e9), ("inceptionv4", 24.5e9)]
)
def test_whole_models_have_their_published_total(name: str, total: float) -> None:
    program = load(MODELS[name](seed=0))
    topology = Topology.parse({"hosts": {"here": {}}})
    program = Pipeline.parse("infer-shapes,fold-constants").run(program, topology)
    work = work_by_op(program)
    assert math.fsum(each.flops for each in work.values()) == pytest.approx(total, rel=0.03)


@pytest.mark.parametrize("name", ["looping", "scanning", "branching"])
def test_work_in_bodies_counts(name: str) -> None:
    program = load(MODELS[name](seed=0))
    topology = Topology.parse({"hosts": {"here": {}}})
    program = Pipeline.parse("infer-shapes,fold-constants").run(program, topology)
    work = work_by_op(program)
    bodied = [op.name for op in program.ops if op.has_bodies]
    assert bodied
    assert all(work[op].flops > 0 and work[op].kind == "recurrent" for op in bodied)
