"""Which ops OpenVINO converts, and which of these its CPU plug-in runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError
from partc.ir.program import Program
from partc.targets.loading import loadable
from partc.targets.openvino.compiling import DEVICE, read_model
from partc.targets.openvino.library import core, onnx_frontend, sentence
from partc.targets.openvino.naming import Numbered

_UNCONVERTED = ("NotSupportedONNXNode", "ONNXFrameworkNode")
_WITHOUT_RULE = re.compile(r"No conversion rule found for operations: (.+)")
_FAILED = re.compile(r"^-- (\S+) with a message:", re.MULTILINE)


def unsupported(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> why OpenVINO cannot run it here.

    Raises:
        MissingBackendError: OpenVINO is not installed.
    """
    numbered = Numbered(Program(model=model))
    found = {**dict(_of_texts(model)), **dict(_of_branches(model))}
    unconverted = _unconverted(numbered) or _in_bodies(numbered)
    found.update(unconverted)
    if not unconverted:
        found.update(_unknown_to_plugin(numbered))
    return found


def _of_texts(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Ops on strings: they convert, but arrays of them are neither taken nor given."""
    typed = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    text = onnx.TensorProto.STRING
    names = {info.name for info in typed if info.type.tensor_type.elem_type == text}
    names |= {w.name for w in model.graph.initializer if w.data_type == text}
    for node in model.graph.node:
        if names.intersection((*node.input, *node.output)):
            yield node.name, "partc hands OpenVINO no tensors of strings"


def _of_branches(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """If, which converts and runs, and after which wrong values were seen."""
    for node in model.graph.node:
        inside = {kind.rpartition(".")[2] for kind in _types_inside(node)}
        if node.op_type == "If" or "If" in inside:
            yield node.name, "OpenVINO's CPU plug-in gives wrong values after some uses of If"


def _unconverted(numbered: Numbered) -> dict[str, str]:
    """Ops that are left over where everything is converted that can be."""
    with tempfile.TemporaryDirectory(prefix="partc-") as folder, loadable(numbered.model) as source:
        path = source if isinstance(source, Path) else Path(folder) / "model.onnx"
        if isinstance(source, bytes):
            path.write_bytes(source)
        try:
            partial = onnx_frontend().convert_partially(onnx_frontend().load(str(path)))
        except Exception as error:  # the frontend's own kinds share no base but Exception
            raise TargetError(f"OpenVINO cannot read the model: {sentence(error)}") from error
        nodes = [
            (node.get_friendly_name(), node.get_type_name()) for node in partial.get_ordered_ops()
        ]
        del partial  # it maps the file
    left = [numbered.op(name) for name, kind in nodes if kind in _UNCONVERTED]
    return {op: f"OpenVINO does not convert {_kind(numbered, op)}" for op in left if op is not None}


def _in_bodies(numbered: Numbered) -> dict[str, str]:
    """Ops with a body in which something cannot be converted, by the types that are named.

    Where nothing that is named is in a body, every op is refused: the model cannot be read.
    """
    with loadable(numbered.model) as source:
        try:
            read_model(source)
        except TargetError as error:
            types = _types_named(str(error.__cause__))
            why = str(error)
        else:
            return {}
    found = {}
    for op in numbered.program.ops:
        for kind in _types_inside(numbered.program.nodes[op.name]):
            if kind in types:
                found[op.name] = f"OpenVINO does not convert the op {kind!r} in its body"
    return found or {op.name: why for op in numbered.program.ops}


def _types_named(message: str) -> set[str]:
    """Types of ops in what OpenVINO says, without the version that it may append."""
    named = [name for line in _WITHOUT_RULE.findall(message) for name in line.split(",")]
    named += _FAILED.findall(message)
    return {re.sub(r"-\d+$", "", name.strip()) for name in named}


def _types_inside(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield f"{inner.domain}.{inner.op_type}" if inner.domain else inner.op_type
                yield from _types_inside(inner)


def _unknown_to_plugin(numbered: Numbered) -> dict[str, str]:
    with loadable(numbered.model) as source:
        read: Any = read_model(source)
        try:
            runs = set(core().query_model(read, DEVICE))
        except RuntimeError as error:
            why = f"OpenVINO cannot examine the model: {sentence(error)}"
            return {op.name: why for op in numbered.program.ops}
        names = [node.get_friendly_name() for node in read.get_ordered_ops()]
        del read
    refused = [numbered.op(name) for name in names if name not in runs]
    return {
        op: f"OpenVINO's CPU plug-in does not run {_kind(numbered, op)}"
        for op in refused
        if op is not None
    }


def _kind(numbered: Numbered, op: str) -> str:
    found = numbered.program.op_by_name[op]
    kind = f"{found.domain}.{found.op_type}" if found.domain else found.op_type
    return f"the op {kind!r} as it is used there"
