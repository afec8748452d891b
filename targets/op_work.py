"""How much an op computes: floating-point operations, counted from its shapes.

A multiplication and an addition count as two. Elementwise functions count one an element, however
long the processor takes for them; ops that only move or rename data count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx

from partc.ir.program import Op, Program

Shape = tuple[int, ...]
WorkKind = Literal["dense", "depthwise", "recurrent", "elementwise", "move"]
"""How well an op can use the hardware: from matrix products to mere copies."""

_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")
_MOVES = frozenset(
    (
        *("Cast", "CastLike", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace"),
        *("Dropout", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND"),
        *("Identity", "NonZero", "Pad", "Range", "Reshape", "ReverseSequence", "Scatter"),
        *("ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split"),
        *("Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "OneHot", "Unique"),
        *(
            "SequenceAt",
            "SequenceConstruct",
            "SequenceInsert",
            "ConcatFromSequence",
            "CenterCropPad",
        ),
    )
)
# Operations for each element that is read: a sum, its difference from a mean, its square, ...
_PER_INPUT_ELEMENT = {
    "BatchNormalization": 2,
    "GroupNormalization": 7,
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "LpNormalization": 3,
    "LRN": 5,
    "MeanVarianceNormalization": 6,
    "RMSNormalization": 4,
    "SkipLayerNormalization": 8,
    "SimplifiedLayerNormalization": 4,
    "Softmax": 4,
    "LogSoftmax": 4,
    "Hardmax": 1,
    "GlobalAveragePool": 1,
    "GlobalMaxPool": 1,
    "GlobalLpPool": 2,
    "ArgMax": 1,
    "ArgMin": 1,
    "CumSum": 1,
    "TopK": 4,
    "QuantizeLinear": 2,
    "DequantizeLinear": 2,
    "DynamicQuantizeLinear": 4,
}
_PER_OUTPUT_ELEMENT = {
    "Gelu": 8,
    "FastGelu": 8,
    "BiasGelu": 9,
    "QuickGelu": 5,
    "Mish": 5,
    "HardSwish": 4,
    "HardSigmoid": 3,
    "Sigmoid": 4,
    "Tanh": 6,
    "Erf": 8,
    "Elu": 3,
    "Selu": 4,
    "Celu": 4,
    "Softplus": 4,
    "Softsign": 3,
    "Clip": 2,
    "Resize": 7,
    "Upsample": 7,
    "GridSample": 10,
    "RoiAlign": 10,
}


class _Shapes:
    """Shapes of what a program's ops read and write; unknown dimensions count as one."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._weights: dict[str, Shape] = {
            w.name: tuple(w.dims) for w in program.model.graph.initializer
        }

    def of(self, tensor: str) -> Shape:
        if tensor in self._weights:
            return self._weights[tensor]
        info = self._program.tensors.get(tensor)
        if info is None:
            return ()
        if info.planned_shape is not None:
            return info.planned_shape
        return tuple(dim if isinstance(dim, int) else 1 for dim in info.shape or ())


Counter = Callable[[onnx.NodeProto, Sequence[Shape], Sequence[Shape]], float]


@dataclass(frozen=True)
class OpWork:
    """What one run of an op computes, and what limits it."""

    flops: float
    kind: WorkKind


def work_by_op(program: Program) -> Mapping[str, OpWork]:
    """Op -> its work. Needs the shapes that ``infer-shapes`` finds."""
    shapes = _Shapes(program)
    return {
        op.name: OpWork(_flops(program, op, shapes), _kind(program, op, shapes))
        for op in program.ops
    }


def _kind(program: Program, op: Op, shapes: _Shapes) -> WorkKind:
    if op.op_type in _CONVOLUTIONS:
        node = program.nodes[op.name]
        weight = shapes.of(node.input[_weight_index(node)])
        group = _int(node, "group", 1)
        return "depthwise" if group > 1 and weight[:1] == (group,) else "dense"
    if op.op_type in _MATRIX:
        return "dense"
    if op.op_type in _RECURRENT or op.has_bodies:
        return "recurrent"
    return "move" if op.op_type in _MOVES else "elementwise"


def _flops(program: Program, op: Op, shapes: _Shapes) -> float:
    node = program.nodes[op.name]
    inputs = [shapes.of(tensor) if tensor else () for tensor in node.input]
    outputs = [shapes.of(tensor) if tensor else () for tensor in node.output]
    if op.has_bodies:
        return _of_bodies(node, op, inputs, outputs, shapes)
    counter = _BY_TYPE.get(op.op_type)
    if counter is not None:
        return float(counter(node, inputs, outputs))
    if op.op_type in _MOVES:
        return 0.0
    if op.op_type in _PER_INPUT_ELEMENT or op.op_type.startswith("Reduce"):
        return float(_PER_INPUT_ELEMENT.get(op.op_type, 1) * _elements(inputs[:1]))
    return float(_PER_OUTPUT_ELEMENT.get(op.op_type, 1) * _elements(outputs[:1]))


def _of_bodies(
    node: onnx.NodeProto, op: Op, inputs: list[Shape], outputs: list[Shape], shapes: _Shapes
) -> float:
    """Each weight of the bodies used once a round; shapes inside of bodies are not known."""
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    inside = sum(math.prod(w.dims) for body in bodies for w in body.initializer)
    captured = sum(_elements([shapes.of(weight)]) for weight in op.weights)
    rounds = 1
    if op.op_type == "Scan":
        scanned = _int(node, "num_scan_inputs", 1)
        axes = next((list(a.ints) for a in node.attribute if a.name == "scan_input_axes"), [])
        shape = inputs[-scanned] if 0 < scanned <= len(inputs) else ()
        axis = axes[0] if axes else 0
        rounds = shape[axis] if -len(shape) <= axis < len(shape) else 1
    elif op.op_type == "Loop":
        # What a loop collects has a row for each round.
        carried = len(node.input) - 2
        collected = [shape for shape in outputs[carried:] if shape]
        rounds = collected[0][0] if collected else 1
    return float(rounds * (2 * (inside + captured) + _elements(outputs)))


def _convolution(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    weight = inputs[_weight_index(node)]
    has_bias = len(node.input) > (8 if node.op_type == "QLinearConv" else 2)
    multiplied = 2 * math.prod(weight[1:])
    return _elements(outputs[:1]) * (multiplied + (1 if has_bias else 0))


def _weight_index(node: onnx.NodeProto) -> int:
    return 3 if node.op_type == "QLinearConv" else 1


def _transposed(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return 2 * _elements(inputs[:1]) * math.prod(inputs[1][1:])


def _product(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    inner = inputs[0][-1] if inputs[0] else 1
    return 2 * _elements(outputs[:1]) * inner


def _gemm(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    first = inputs[0] or (1, 1)
    inner = first[0] if _int(node, "transA", 0) else first[-1]
    bias = 1 if len(node.input) > 2 and node.input[2] else 0
    return _elements(outputs[:1]) * (2 * inner + bias)


def _einsum(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    equation = next((a.s.decode() for a in node.attribute if a.name == "equation"), "")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=False):
        if "." not in term and len(term) == len(shape):
            sizes.update(zip(term, shape, strict=True))
    if not sizes:
        return 2 * _elements(outputs[:1])
    return len(terms) * math.prod(sizes.values())


def _pool(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), [1])
    return _elements(outputs[:1]) * math.prod(kernel)


def _n_ary(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    return _elements(outputs[:1]) * max(1, len(node.input) - 1)


def _recurrent(gates: int) -> Counter:
    def count(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
        if not inputs or not inputs[0]:
            return 0.0
        steps = inputs[0][0] * (inputs[0][1] if len(inputs[0]) > 1 else 1)
        weights = _elements(inputs[1:3])  # both hold one matrix a gate and direction
        hidden = _int(node, "hidden_size", 1) * (inputs[1][0] if inputs[1] else 1)
        return steps * (2.0 * weights + 4 * gates * hidden)

    return count


def _attention(node: onnx.NodeProto, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Scores and their weighted sum; keys and values as long as the input itself."""
    shape = inputs[0] or (1, 1)
    length = inputs[1][-2] if len(inputs) > 1 and len(inputs[1]) > 1 else shape[-2]
    return 4 * _elements(inputs[:1]) * length


_MATRIX: Mapping[str, Counter] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"), _product),
    "Gemm": _gemm,
    "Einsum": _einsum,
    **dict.fromkeys(("Attention", "MultiHeadAttention"), _attention),
}
_RECURRENT: Mapping[str, Counter] = {
    "RNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
}
_ELEMENTWISE: Mapping[str, Counter] = {
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min"), _n_ary),
}
_BY_TYPE = {**_MATRIX, **_RECURRENT, **_ELEMENTWISE}


def _elements(shapes: Sequence[Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
