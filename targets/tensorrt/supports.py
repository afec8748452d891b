"""Which ops an engine can hold, by the real parser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import onnx

from partc.targets.loading import loadable
from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import LIBRARIES, Library
from partc.targets.tensorrt.known_ops import WITHOUT_IMPLEMENTATION
from partc.targets.tensorrt.parsing import foreign_types
from partc.targets.tensorrt.value_shapes import never_given

_TIMEOUT_S = 600.0
_STANDARD = ("", "ai.onnx")


def unsupported(model: onnx.ModelProto, judges: tuple[Library, ...]) -> dict[str, str]:
    """Node name -> why, by the first of ``judges`` that can be asked here.

    TensorRT's own parser needs a GPU; TensorRT-RTX's, which has the same source, does not. Where
    neither is there, a list of what it refuses has to do; the builder then finds out the rest.
    """
    for library in judges:
        machine = machine_of(library.flavour)
        if machine.version and (machine.gpu is not None or library.capabilities):
            with loadable(model) as source:
                if isinstance(source, bytes):
                    return dict(_asked(source, library.flavour))
                return _ask(source, library.flavour)
    return listed(model, judges[0].title)


def listed(model: onnx.ModelProto, title: str) -> dict[str, str]:
    """Node name -> why, by element types and a list of ops; plug-ins count as refused."""
    refused = {**never_given(model, title), **dict(foreign_types(model, title))}
    functions = {function.name for function in model.functions}
    for node in model.graph.node:
        for each in (node, *_inner(node)):
            if each.op_type in functions:
                continue
            if each.domain not in _STANDARD:
                refused[node.name] = f"{title} knows no op {each.op_type!r} of {each.domain!r}"
            elif each.op_type in WITHOUT_IMPLEMENTATION:
                refused[node.name] = f"{title} has no implementation of {each.op_type}"
    return refused


def _inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for each in body.node:
                yield each
                yield from _inner(each)


# A compilation asks about the same model several times.
@lru_cache(maxsize=2)
def _asked(model: bytes, flavour: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return _ask(path, flavour)


def _ask(path: Path, flavour: str) -> dict[str, str]:
    job = {"job": "supports", "model": str(path.absolute())}
    refused: dict[str, str] = ask(LIBRARIES[flavour], job, timeout_s=_TIMEOUT_S)["refused"]
    return refused
