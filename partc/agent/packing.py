"""A model as it travels: the graph, and each large weight by itself under its SHA-256.

Segments of one model share their weights, so each weight is sent to a node once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from partc.errors import RequestError, TargetError

SMALLEST_PART_BYTES = 1 << 16
LARGEST_GRAPH_BYTES = 1 << 30
_PREFIX = "partc-part:"


@dataclass(frozen=True)
class PackedModel:
    """A model in pieces; every key is the SHA-256 of its value.

    Attributes:
        digest: of the graph, which names the weights by theirs.
    """

    digest: str
    pieces: dict[str, bytes] = field(repr=False)


def pack(model: onnx.ModelProto) -> PackedModel:
    """Take large weights out of a model, which is left as it is.

    Raises:
        TargetError: the graph without them is too large to send.
    """
    pieces: dict[str, bytes] = {}
    bare = onnx.ModelProto()
    _copy_fields(model, bare, without="graph")
    _copy_fields(model.graph, bare.graph, without="initializer")
    for weight in model.graph.initializer:
        if len(weight.raw_data) < SMALLEST_PART_BYTES:
            bare.graph.initializer.add().CopyFrom(weight)
            continue
        digest = hashlib.sha256(weight.raw_data).hexdigest()
        pieces[digest] = weight.raw_data
        named = bare.graph.initializer.add(name=weight.name, data_type=weight.data_type)
        named.dims.extend(weight.dims)
        named.data_location = onnx.TensorProto.EXTERNAL
        named.external_data.add(key="location", value=_PREFIX + digest)
    if bare.ByteSize() > LARGEST_GRAPH_BYTES:
        raise TargetError(
            f"the model has {bare.ByteSize()} bytes besides its weights, too many to send to an "
            "agent; turn its large Constant nodes into initializers"
        )
    data = bare.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data).hexdigest()
    return PackedModel(digest, {digest: data, **pieces})


def unpack(graph: bytes, piece: Callable[[str], bytes]) -> onnx.ModelProto:
    """The model again; it refers to no file afterwards.

    Args:
        piece: gives what has a SHA-256.

    Raises:
        RequestError: it is not a model, or refers to files of the node.
    """
    model = _parsed(graph)
    for weight in model.graph.initializer:
        location = next((e.value for e in weight.external_data if e.key == "location"), "")
        if weight.data_location == onnx.TensorProto.EXTERNAL and location.startswith(_PREFIX):
            weight.raw_data = piece(location.removeprefix(_PREFIX))
            weight.ClearField("external_data")
            weight.ClearField("data_location")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise RequestError(
                f"weight {tensor.name[:80]!r} is in a file, which a node does not read; "
                "load it into the model first"
            )
    return model


def pieces_named_in(graph: bytes) -> list[str]:
    """SHA-256 of every weight that was taken out of a graph."""
    model = _parsed(graph)
    return [
        entry.value.removeprefix(_PREFIX)
        for weight in model.graph.initializer
        for entry in weight.external_data
        if entry.value.startswith(_PREFIX)
    ]


def check_references(graph: bytes, names: Collection[str]) -> None:
    """Models that a builder loads from a folder refer to nothing but the files sent with them.

    Raises:
        RequestError: it is not a model, or refers to something else.
    """
    for tensor in _tensors(_parsed(graph)):
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        is_elsewhere = tensor.data_location == onnx.TensorProto.EXTERNAL or bool(places)
        if is_elsewhere and (len(places) != 1 or places[0] not in names):
            raise RequestError(
                f"weight {tensor.name[:80]!r} is in a file that was not sent with the model"
            )


def _parsed(graph: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except DecodeError as error:
        raise RequestError("what was sent is not an ONNX model") from error
    return model


def _copy_fields(source: Any, target: Any, without: str) -> None:
    for described, value in source.ListFields():
        if described.name == without:
            continue
        if hasattr(value, "extend"):
            getattr(target, described.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, described.name).CopyFrom(value)
        else:
            setattr(target, described.name, value)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        while graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        for attribute in nodes.pop().attribute if nodes else ():
            yield from (attribute.t, *attribute.tensors)
            for each in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (each.values, each.indices)
            graphs.extend((attribute.g, *attribute.graphs))
