"""Writes a lower floating-point precision into a graph: casts at its edges, weights converted.

What an op may compute in is read off its ONNX schema: an op whose inputs may be of the lower type
gets them so, and its outputs follow. Everything else keeps float32, with casts between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

from partc.ir.program import Array

Low = Literal["fp16", "bf16"]

_TYPE = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
_WRITTEN = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
_FLOAT = "tensor(float)"
_LARGEST_FP16 = 65504.0
_SMALLEST_FP16 = 2.0**-24
# They turn whole numbers into floats or back, draw, count or measure: digits lost there are lost
# in positions, sizes and scales.
_KEPT = frozenset((
    "Cast", "CastLike", "CumSum", "DequantizeLinear", "DynamicQuantizeLinear", "NonMaxSuppression",
    "QuantizeLinear", "RandomNormalLike", "RandomUniformLike", "Range", "Shape", "Size",
))  # fmt: skip


@dataclass(frozen=True)
class Lowered:
    """A graph at a lower precision.

    Attributes:
        ops: how many ops compute in it.
        float_ops: how many computed in float32 before.
    """

    model: onnx.ModelProto
    ops: int
    float_ops: int


def lowered(model: onnx.ModelProto, precision: Low, *, emulated: bool = False) -> Lowered:
    """A copy of ``model`` that computes in ``precision`` where its ops can; inputs and outputs
    keep their types.

    Args:
        emulated: compute in float32 and round every value to ``precision``, for processors that
            have no such arithmetic.
    """
    return _Lowering(model, precision, emulated).run()


class _Lowering:
    def __init__(self, model: onnx.ModelProto, precision: Low, emulated: bool) -> None:
        self._model = model
        self._precision: Low = precision
        self._emulated = emulated
        self._opsets = {each.domain: each.version for each in model.opset_import}
        self._types = _element_types(model)
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._names = {name for node in model.graph.node for name in (*node.input, *node.output)}
        self._names |= {node.name for node in model.graph.node} | set(self._weights)
        self._nodes: list[onnx.NodeProto] = []
        self._new_weights: list[onnx.TensorProto] = []
        # Original name -> the name of its lower version; and originals that exist as they were.
        self._low: dict[str, str] = {}
        self._high: set[str] = {value.name for value in model.graph.input} | set(self._weights)
        self._kept_weights: set[str] = set()
        self._counts = [0, 0]

    def run(self) -> Lowered:
        for node in self._model.graph.node:
            variables = self._lower_variables(node)
            self._counts[1] += self._is_float(node)
            if variables:
                self._counts[0] += 1
                self._add_low(node, variables)
            else:
                self._add_high(node)
        for value in self._model.graph.output:
            self._need_high(value.name)
        return Lowered(self._built(), self._counts[0], self._counts[1])

    def _is_float(self, node: onnx.NodeProto) -> bool:
        return any(self._types.get(name) == onnx.TensorProto.FLOAT for name in node.input)

    def _lower_variables(self, node: onnx.NodeProto) -> set[str]:
        """Type variables of the op's schema that become the lower type."""
        if node.op_type in _KEPT or any(a.HasField("g") or a.graphs for a in node.attribute):
            return set()
        schema = _schema(node, self._opsets)
        if schema is None:
            return set()
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        bound: dict[str, set[int | None]] = {}
        for name, variable in _variables(node.input, schema.inputs):
            bound.setdefault(variable, set()).add(self._types.get(name))
        low = _WRITTEN[self._precision]
        return {
            variable
            for variable, types in bound.items()
            if types == {onnx.TensorProto.FLOAT} and {_FLOAT, low} <= allowed.get(variable, set())
        }

    def _add_low(self, node: onnx.NodeProto, variables: set[str]) -> None:
        schema = _schema(node, self._opsets)
        assert schema is not None
        inputs = dict(enumerate(node.input))
        for index, (name, variable) in enumerate(_variables(node.input, schema.inputs, True)):
            if not name:
                continue
            if variable in variables:
                inputs[index] = self._need_low(name)
            else:
                self._need_high(name)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs.values()
        outputs: list[str] = []
        rounded: list[tuple[str, str]] = []
        for name, variable in _variables(node.output, schema.outputs, True):
            if not name or variable not in variables:
                outputs.append(name)
                self._high.add(name)
                continue
            low = self._unique(f"{name}_{self._precision}")
            self._low[name] = low
            if self._emulated:
                exact = self._unique(f"{name}_exact")
                rounded.append((exact, low))
                outputs.append(exact)
            else:
                outputs.append(low)
        copy.output[:] = outputs
        self._nodes.append(copy)
        for exact, low in rounded:
            self._round(exact, low)

    def _add_high(self, node: onnx.NodeProto) -> None:
        for name in _reads(node):
            if name in self._low or name in self._weights:
                self._need_high(name)
        self._nodes.append(node)
        self._high.update(name for name in node.output if name)

    def _need_low(self, name: str) -> str:
        if name not in self._low:
            low = self._unique(f"{name}_{self._precision}")
            if name in self._weights:
                self._new_weights.append(self._converted(self._weights[name], low))
            elif self._emulated:
                self._round(name, low)
            else:
                self._cast(name, low, _TYPE[self._precision])
            self._low[name] = low
        return self._low[name]

    def _need_high(self, name: str) -> None:
        if name in self._weights:
            self._kept_weights.add(name)
        if name in self._high or name not in self._low:
            return
        # In emulation the lower version is a float32 already, and only its name differs.
        self._cast(self._low[name], name, onnx.TensorProto.FLOAT)
        self._high.add(name)

    def _cast(self, source: str, target: str, kind: int) -> None:
        name = self._unique(f"{target}_cast")
        self._nodes.append(onnx.helper.make_node("Cast", [source], [target], name=name, to=kind))

    def _round(self, source: str, target: str) -> None:
        narrow = self._unique(f"{target}_narrow")
        self._cast(source, narrow, _TYPE[self._precision])
        self._cast(narrow, target, onnx.TensorProto.FLOAT)

    def _converted(self, weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
        values = narrowed(numpy_helper.to_array(weight), self._precision)
        if self._emulated:
            return numpy_helper.from_array(values.astype(np.float32), name)
        tensor = onnx.TensorProto(name=name, data_type=_TYPE[self._precision], dims=weight.dims)
        tensor.raw_data = np.ascontiguousarray(values).tobytes()
        return tensor

    def _unique(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def _built(self) -> onnx.ModelProto:
        old = self._model.graph
        graph = onnx.GraphProto(name=old.name, doc_string=old.doc_string)
        graph.node.extend(self._nodes)
        graph.input.extend(old.input)
        graph.output.extend(old.output)
        inputs = {value.name for value in old.input}
        graph.initializer.extend(
            weight
            for weight in old.initializer
            if weight.name in self._kept_weights
            or weight.name in inputs
            or weight.name not in self._low
        )
        graph.initializer.extend(self._new_weights)
        graph.sparse_initializer.extend(old.sparse_initializer)
        known = {name for node in self._nodes for name in node.output}
        graph.value_info.extend(value for value in old.value_info if value.name in known)
        copy = onnx.ModelProto(
            ir_version=self._model.ir_version, producer_name=self._model.producer_name
        )
        copy.graph.CopyFrom(graph)
        copy.opset_import.extend(self._model.opset_import)
        copy.functions.extend(self._model.functions)
        copy.metadata_props.extend(self._model.metadata_props)
        return copy


def narrowed(values: Array, precision: Low) -> Array:
    """Float32 values in a lower precision.

    What float16 cannot hold becomes its largest number, and what would vanish its smallest: a
    mask of -1e9 stays a mask, and an epsilon stays above zero.
    """
    if precision == "bf16":
        brain: Array = values.astype(ml_dtypes.bfloat16)
        return brain
    finite = np.isfinite(values)
    limited = np.where(finite, np.clip(values, -_LARGEST_FP16, _LARGEST_FP16), values)
    tiny = finite & (limited != 0) & (np.abs(limited) < _SMALLEST_FP16)
    return np.where(tiny, np.copysign(_SMALLEST_FP16, limited), limited).astype(np.float16)


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    typed = model
    if model.ByteSize() < 2**31 - 2**20:
        typed = onnx.shape_inference.infer_shapes(model)
    graph = typed.graph
    types = {
        value.name: int(value.type.tensor_type.elem_type)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.HasField("tensor_type")
    }
    types.update((weight.name, int(weight.data_type)) for weight in model.graph.initializer)
    return types


def _schema(node: onnx.NodeProto, opsets: dict[str, int]) -> onnx.defs.OpSchema | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _variables(
    names: Iterable[str], formal: Iterable[onnx.defs.OpSchema.FormalParameter], empty: bool = False
) -> Iterator[tuple[str, str]]:
    """Actual tensors with the type variable of their parameter; the last one may be repeated."""
    parameters = list(formal)
    for index, name in enumerate(names):
        if name or empty:
            yield name, parameters[min(index, len(parameters) - 1)].type_str if parameters else ""


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for each in body.node:
                yield from _reads(each)
            # A body may hand on what it finds outside as it is.
            yield from (value.name for value in body.output)
