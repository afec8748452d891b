"""Types and shapes as ONNX writes them, and as partc does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import onnx

from partc.ir.program import Program
from partc.ir.tensor import Dim, TensorInfo, TensorKind

# Weights up to this size may be shapes, which inference needs to see.
_SHAPE_SIZED_BYTES = 4096
# Symbols that ONNX's inference makes up for dimensions that it does not know.
_MADE_UP = re.compile(r"unk__\d+")

_KINDS: dict[str, TensorKind] = {
    "tensor_type": "tensor",
    "sequence_type": "sequence",
    "optional_type": "optional",
    "map_type": "map",
    "sparse_tensor_type": "sparse_tensor",
}


def dtype_name(element_type: int) -> str:
    """numpy's (or ml_dtypes') name of an ONNX element type; empty if undefined."""
    if element_type == onnx.TensorProto.UNDEFINED:
        return ""
    if element_type == onnx.TensorProto.STRING:
        return "string"
    return str(onnx.helper.tensor_dtype_to_np_dtype(element_type).name)


def element_type(dtype: str) -> int:
    """The inverse of `dtype_name`."""
    for value in onnx.TensorProto.DataType.values():
        if value != onnx.TensorProto.UNDEFINED and dtype_name(value) == dtype:
            return int(value)
    return int(onnx.TensorProto.UNDEFINED)


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """What a value info says; ``planned_shape`` is set where every dimension is a number."""
    which = value.type.WhichOneof("value") or "tensor_type"
    kind = _KINDS[which]
    if kind != "tensor":
        return TensorInfo(value.name, "", None, None, kind)
    tensor = value.type.tensor_type
    shape = _dims(tensor.shape) if tensor.HasField("shape") else None
    planned = None
    if shape is not None and all(isinstance(dim, int) for dim in shape):
        planned = tuple(dim for dim in shape if isinstance(dim, int))
    return TensorInfo(value.name, dtype_name(tensor.elem_type), shape, planned)


def value_info(name: str, info: TensorInfo) -> onnx.ValueInfoProto:
    """A value info with the type and the shape as the model writes it: dynamic stays dynamic.

    Where the type is unknown it carries the name alone, which ONNX Runtime completes.
    """
    if not info.dtype:
        return onnx.ValueInfoProto(name=name)
    return onnx.helper.make_tensor_value_info(
        name,
        element_type(info.dtype),
        None if info.shape is None else [_dim_or_empty(dim) for dim in info.shape],
    )


def _dim_or_empty(dim: Dim) -> int | str | None:
    return None if dim == "" else dim


def _dims(shape: onnx.TensorShapeProto) -> tuple[Dim, ...]:
    dims: list[Dim] = []
    for dim in shape.dim:
        if dim.HasField("dim_value"):
            dims.append(int(dim.dim_value) if dim.dim_value >= 0 else None)
        else:
            dims.append(None if _MADE_UP.fullmatch(dim.dim_param) else dim.dim_param or None)
    return tuple(dims)


def inferred_types(
    program: Program, bindings: dict[str, tuple[int, ...]] | None = None
) -> dict[str, TensorInfo]:
    """Tensor -> type and shape by ONNX's own inference; ``bindings`` fix the inputs' shapes.

    Inference runs on a skeleton in which large weights are inputs, so that a model over 2 GiB
    can be inferred and a large one is not copied.
    """
    skeleton = _skeleton(program.model)
    if _has_open_input(program):
        _forget_shapes_of_bodies(skeleton.graph.node)
    for value in skeleton.graph.input:
        if bindings and value.name in bindings:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for size in bindings[value.name]:
                shape.dim.add().dim_value = size
    for output in skeleton.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(
        skeleton, check_type=False, strict_mode=False, data_prop=True
    )
    wanted = {*program.inputs, *program.producer}
    graph = inferred.graph
    values = (*graph.value_info, *graph.output, *graph.input)
    infos = {value.name: tensor_info(value) for value in values if value.name in wanted}
    if not bindings:
        for output in program.model.graph.output:
            if output.name in infos and output.name not in program.inputs:
                infos[output.name] = _with_declared(
                    infos[output.name], tensor_info(output), is_open=_has_open_input(program)
                )
    return infos


def _has_open_input(program: Program) -> bool:
    inputs = (tensor_info(value) for value in program.model.graph.input)
    return any(
        not isinstance(dim, int)
        for info in inputs
        if info.name not in program.weights
        for dim in info.shape or (None,)
    )


def _forget_shapes_of_bodies(nodes: Iterable[onnx.NodeProto]) -> None:
    """Bodies, too, carry shapes that an exporter traced, beside a batch that is open."""
    for node in nodes:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                for value in (*body.input, *body.output, *body.value_info):
                    if value.type.HasField("tensor_type"):
                        value.type.tensor_type.ClearField("shape")
                _forget_shapes_of_bodies(body.node)


def _with_declared(info: TensorInfo, declared: TensorInfo, is_open: bool) -> TensorInfo:
    """An output's shape as inferred, completed by what the model declares.

    Exporters write the shape that they traced, numbers included, beside inputs whose batch is
    open: there a number is believed only where inference finds it too.
    """
    if declared.shape is None or info.kind != "tensor":
        return info
    believed = tuple(None if is_open and isinstance(dim, int) else dim for dim in declared.shape)
    found = info.shape if info.shape is not None else (None,) * len(believed)
    if len(found) != len(believed):
        return info
    shape = tuple(b if f is None else f for f, b in zip(found, believed, strict=True))
    is_static = all(isinstance(dim, int) for dim in shape)
    planned = tuple(dim for dim in shape if isinstance(dim, int)) if is_static else None
    return replace(info, shape=shape, planned_shape=planned)


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    listed = {value.name for value in graph.input}
    for weight in model.graph.initializer:
        if weight.ByteSize() <= _SHAPE_SIZED_BYTES:
            graph.initializer.append(weight)
        elif weight.name not in listed:
            graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            )
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    skeleton = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    return skeleton
