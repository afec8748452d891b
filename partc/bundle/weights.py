"""Weights that several models of one folder share, kept once in a file beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

_SMALLEST_SHARED_BYTES = 1024
_ALIGNMENT_BYTES = 64


def shared_weights(models: Iterable[onnx.ModelProto], largest_inline_bytes: int) -> set[str]:
    """Names of the weights that are worth a file of their own.

    Those are weights that two or more models hold, and all large ones where a model with its
    weights inside would be larger than ``largest_inline_bytes``. Equal names are equal weights:
    the models are cut from one.
    """
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for model in models:
        large = {
            weight.name
            for weight in model.graph.initializer
            if len(weight.raw_data) >= _SMALLEST_SHARED_BYTES
        }
        seen.update(large)
        if model.ByteSize() > largest_inline_bytes:
            found |= large
    return found | {name for name, models_with_it in seen.items() if models_with_it > 1}


def with_weights_beside(
    models: Mapping[str, onnx.ModelProto], names: set[str], data: Path
) -> dict[str, onnx.ModelProto]:
    """Copies of the models in which the weights ``names`` are read from the file ``data``.

    ``data`` is written; it must lie in the folder where the models will.
    """
    places: dict[str, tuple[int, int]] = {}
    with data.open("wb") as file:
        for model in models.values():
            for weight in model.graph.initializer:
                if weight.name not in names or weight.name in places:
                    continue
                file.write(bytes(-file.tell() % _ALIGNMENT_BYTES))
                places[weight.name] = (file.tell(), len(weight.raw_data))
                file.write(weight.raw_data)
    return {key: _referring(model, places, data.name) for key, model in models.items()}


def _referring(
    model: onnx.ModelProto, places: Mapping[str, tuple[int, int]], location: str
) -> onnx.ModelProto:
    graph = onnx.GraphProto()
    graph.CopyFrom(_without_weights(model.graph))
    for weight in model.graph.initializer:
        kept = graph.initializer.add()
        if weight.name not in places:
            kept.CopyFrom(weight)
            continue
        kept.name, kept.data_type = weight.name, weight.data_type
        kept.dims.extend(weight.dims)
        kept.data_location = onnx.TensorProto.EXTERNAL
        offset, length = places[weight.name]
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            kept.external_data.add(key=key, value=str(value))
    copy = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    copy.graph.CopyFrom(graph)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.metadata_props.extend(model.metadata_props)
    return copy


def _without_weights(graph: onnx.GraphProto) -> onnx.GraphProto:
    bare = onnx.GraphProto(name=graph.name, doc_string=graph.doc_string)
    bare.node.extend(graph.node)
    bare.input.extend(graph.input)
    bare.output.extend(graph.output)
    bare.value_info.extend(graph.value_info)
    bare.sparse_initializer.extend(graph.sparse_initializer)
    return bare
