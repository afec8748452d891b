"""Tensors whose shape depends on values, such as what NonZero gives. ONNX alone, no TensorRT.

An engine may work with them inside; it cannot give them out, as nobody knows how much memory they
take before it has run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from partc.targets.loading import LARGEST_IN_MEMORY_BYTES

_ALWAYS = frozenset(["NonZero", "NonMaxSuppression", "Unique", "Compress"])
# Inputs whose contents decide the shape of what an op gives.
_DECIDING: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2),
    "Reshape": (1,), "Resize": (2, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,),
    "TopK": (1,), "Upsample": (1,),
}  # fmt: skip
# What they give has the shape of the first input, whatever the others are.
_LIKE_FIRST = frozenset(["Scatter", "ScatterElements", "ScatterND", "TensorScatter"])
_TELLS_SHAPE = frozenset(["Shape", "Size"])

Sources = frozenset[str]
"""Names of ops."""

_NONE: Sources = frozenset()


@dataclass(frozen=True)
class ValueShapes:
    """What a graph tells of shapes that depend on values.

    Attributes:
        by_tensor: tensor -> the ops that make its shape depend on values; others are not there.
        kinds: those ops -> their types.
    """

    by_tensor: Mapping[str, Sources]
    kinds: Mapping[str, str]

    def behind(self, tensors: Iterable[str]) -> dict[str, str]:
        """Op -> its type, of those that make the shape of some tensors depend on values."""
        names = sorted({op for tensor in tensors for op in self.by_tensor.get(tensor, _NONE)})
        return {op: self.kinds[op] for op in names}


def value_shapes(model: onnx.ModelProto) -> ValueShapes:
    """Follow values and shapes through the graph, in the order in which it is written.

    Where a shape is written down, or inferred, it depends on nothing. Bodies of control flow are
    not looked into.
    """
    graph = model.graph
    fixed = _fixed(graph)
    inputs = {value.name for value in graph.input}
    # Tensors with contents that are not known from shapes alone; weights are not among them.
    varying = inputs - {weight.name for weight in graph.initializer}
    found: dict[str, Sources] = {}
    kinds: dict[str, str] = {}
    for node in graph.node:
        read = [name for name in node.input if name]
        shaping = read[:1] if node.op_type in _LIKE_FIRST else read
        sources = frozenset().union(*(found.get(name, _NONE) for name in shaping))
        is_shape = node.op_type in _TELLS_SHAPE
        if _decides(node, varying):
            kinds[node.name] = node.op_type
            sources = frozenset([node.name])
        for name in node.output:
            if sources and not is_shape and name not in fixed:
                found[name] = sources
            if sources if is_shape else any(each in varying for each in read):
                varying.add(name)
    return ValueShapes(found, kinds)


def never_given(model: onnx.ModelProto, title: str) -> dict[str, str]:
    """Op -> why it cannot be in an engine: the shape of an output of the model hangs on it.

    Wherever a segment with such an op ends, some tensor that it gives has such a shape. An op
    whose shapes are fixed again further on is not among them.
    """
    typed = model
    if model.ByteSize() < LARGEST_IN_MEMORY_BYTES:
        typed = onnx.shape_inference.infer_shapes(model)
    outputs = [value.name for value in model.graph.output]
    return {
        op: f"the shape of what {kind} gives depends on values, and engines of {title} cannot give "
        "out such tensors"
        for op, kind in value_shapes(typed).behind(outputs).items()
    }


def _decides(node: onnx.NodeProto, varying: set[str]) -> bool:
    if node.op_type in _ALWAYS:
        return any(name in varying for name in node.input)
    places = _DECIDING.get(node.op_type, ())
    return any(place < len(node.input) and node.input[place] in varying for place in places)


def _fixed(graph: onnx.GraphProto) -> set[str]:
    """Tensors with a shape that is written down."""
    return {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
