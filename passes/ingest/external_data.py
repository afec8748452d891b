"""Reads weights that lie in files beside the model, none from anywhere else."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx

from partc.errors import ModelError
from partc.ir.tensor import element_bits
from partc.passes.ingest.types import dtype_name


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Put all external data of the model that was read from ``path`` into the model itself.

    Files are opened by partc alone, so that nothing is followed out of the model's folder. A file
    with several names (a hard link) is fine, since what is read is copied.

    Raises:
        ModelError: a file is missing, a link, outside of the folder, or does not fit.
    """
    folder = path.resolve().parent
    for weight in external_tensors(model):
        where = f"model {path}: the external data of {weight.name!r}"
        weight.raw_data = _read(weight, folder, where)
        weight.data_location = onnx.TensorProto.DEFAULT
        del weight.external_data[:]


def _read(weight: onnx.TensorProto, folder: Path, where: str) -> bytes:
    entries = {entry.key: entry.value for entry in weight.external_data}
    location = entries.get("location", "")
    pure = PurePosixPath(location)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in location:
        raise ModelError(
            f"{where} points outside of the model's folder ({location!r}); "
            "save the model with its data beside it"
        )
    file = folder / location
    needed = _needed_bytes(weight, where)
    offset = _number(entries, "offset", 0)
    length = _number(entries, "length", needed)
    if offset is None or length != needed:
        raise ModelError(
            f"{where} is described wrongly: {entries.get('length')!r} bytes from "
            f"{entries.get('offset', '0')!r} on, where its type and shape need {needed}; "
            "export the model again"
        )
    descriptor = _open(file, folder, where)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ModelError(f"{where} is not a plain file ({file}); copy it beside the model")
        if offset + needed > found.st_size:
            raise ModelError(
                f"{where} does not fit {file}: it ends at byte {offset + needed}, the file at "
                f"{found.st_size}; copy the file again"
            )
        stream.seek(offset)
        return stream.read(needed)


def _open(file: Path, folder: Path, where: str) -> int:
    if not file.resolve().is_relative_to(folder) or file.is_symlink():
        raise ModelError(f"{where} is a link ({file}); put the file itself beside the model")
    try:
        return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ModelError(
            f"{where} is missing: there is no file {file}; copy it beside the model"
        ) from None
    except OSError as error:
        raise ModelError(
            f"{where} cannot be read from {file}: {error.strerror or error}"
        ) from error


def _needed_bytes(weight: onnx.TensorProto, where: str) -> int:
    dtype = dtype_name(weight.data_type)
    if not dtype or dtype == "string" or any(dim < 0 for dim in weight.dims):
        raise ModelError(f"{where} is of a type that cannot lie in a file; export the model again")
    elements: int = math.prod(weight.dims)
    return (elements * element_bits(dtype) + 7) // 8


def _number(entries: Mapping[str, str], key: str, default: int) -> int | None:
    text = entries.get(key)
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Weights and constants, in bodies and functions too, that lie in files."""
    tensors = _tensors_of_graph(model.graph)
    for function in model.functions:
        tensors = (*tensors, *_tensors_of_nodes(function.node))
    return (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)


def _tensors_of_graph(graph: onnx.GraphProto) -> tuple[onnx.TensorProto, ...]:
    sparse = (part for s in graph.sparse_initializer for part in (s.values, s.indices))
    return (*graph.initializer, *sparse, *_tensors_of_nodes(graph.node))


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(body)
