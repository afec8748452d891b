"""The graphs of examples/models as placement problems, with costs from a formula.

Ops and tensors are those of the models; the seconds are not measured, so that an instance is the
same on every machine: work at 50 Gflop/s, plus bytes at 10 GB/s, plus 5 microseconds for each op.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import onnx

import partc
from benchmarks.instances import GraphWriter, Network
from examples.models import MODELS, transformer
from partc.ir.program import Op, Program
from partc.passes.contract import Context
from partc.pipeline import Pipeline

FLOP_PER_S = 50e9
BYTES_PER_S = 10e9
OP_S = 5e-6
SEQUENCE = 128

_MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenetv2": MODELS["mobilenetv2"],
    "resnet50": MODELS["resnet50"],
    "inceptionv4": MODELS["inceptionv4"],
    "encoder": lambda: transformer.build(layers=24, sequence=SEQUENCE, decompose_norm=True),
}


@functools.cache
def real_network(name: str) -> Network:
    """Ops, tensors and weights of a model, with the seconds of each op on the fastest host."""
    topology = partc.Topology.parse({"hosts": {"here": {}}})
    program = Pipeline.parse("infer-shapes,fold-constants").run(
        partc.load(_MODELS[name]()), topology, context=Context(topology)
    )
    shapes = {t.name: tuple(t.dims) for t in program.model.graph.initializer}
    graph = GraphWriter(0)
    for op in program.placed_ops:
        for tensor in (*op.inputs, *op.outputs):
            graph.tensors.setdefault(tensor, float(program.tensor(tensor).size_bytes))
        graph.ops.append(
            {
                "name": op.name,
                "inputs": list(dict.fromkeys(op.inputs)),
                "outputs": list(op.outputs),
                "weights": list(dict.fromkeys(op.weights)),
                "work": _seconds(program, op, shapes),
            }
        )
    used = {weight for op in graph.ops for weight in op["weights"]}
    graph.weights = [
        {"name": weight, "size_bytes": float(size_bytes)}
        for weight, size_bytes in program.weights.items()
        if weight in used
    ]
    return Network(graph, tuple(program.inputs), tuple(program.outputs))


def _seconds(program: Program, op: Op, shapes: dict[str, tuple[int, ...]]) -> float:
    moved_bytes = sum(program.tensor(name).size_bytes for name in (*op.inputs, *op.outputs))
    moved_bytes += sum(program.weights[name] for name in op.weights)
    return _flop(program, op, shapes) / FLOP_PER_S + moved_bytes / BYTES_PER_S + OP_S


def _flop(program: Program, op: Op, shapes: dict[str, tuple[int, ...]]) -> float:
    """Two for each multiplication and addition of a sum of products, else one for each element."""
    elements = sum(_elements(program, name) for name in op.outputs)
    kernels = [shapes[name] for name in op.weights if len(shapes.get(name, ())) >= 2]
    if op.op_type == "Conv" and kernels:
        return 2.0 * elements * math.prod(kernels[0][1:])
    if op.op_type in ("Gemm", "MatMul"):
        return 2.0 * elements * (program.tensor(op.inputs[0]).planned_shape or (1,))[-1]
    return float(max(elements, *(_elements(program, name) for name in op.inputs), 1))


def _elements(program: Program, name: str) -> int:
    return math.prod(program.tensor(name).planned_shape or ())
