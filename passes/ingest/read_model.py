"""Reads an ONNX file that may be hostile, and gives a program in normal form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from partc.errors import ModelError, UsageError
from partc.ir.program import Array, Program
from partc.passes import surgery
from partc.passes.ingest.normal_form import normal_form
from partc.suggest import unknown_name


def read_model(
    source: str | Path | onnx.ModelProto,
    *,
    bindings: Mapping[str, tuple[int, ...]] | None = None,
    sample: Mapping[str, Array] | None = None,
) -> Program:
    """Load, check and normalise a model.

    Args:
        source: a file, or a model in memory.
        bindings: input -> the shape to plan for, where the model leaves dimensions open.
        sample: input -> array; it binds shapes too, and is what answers are compared on.

    Raises:
        ModelError: the file is missing, truncated, not ONNX, refused by the checker, or names
            external data that is missing or outside of the model's folder.
        UsageError: ``bindings`` or ``sample`` name an input that the model does not have.
    """
    path = None if isinstance(source, onnx.ModelProto) else Path(source)
    model = source if isinstance(source, onnx.ModelProto) else _read_file(Path(source))
    _check(model, path)
    program = Program(
        model=surgery.sorted_and_pruned(normal_form(_inline_functions(model))),
        original=model,
        source=path,
        bindings=dict(bindings or {}),
        sample=dict(sample or {}),
    )
    for what, names in (("--shape", program.bindings), ("--input", program.sample)):
        for name in names:
            if name not in program.inputs:
                raise UsageError(f"{what}: {unknown_name('model input', name, program.inputs)}")
    if program.sample:
        missing = [name for name in program.inputs if name not in program.sample]
        if missing:
            raise UsageError(
                f"--input has no array for model input {missing[0]!r}; it needs "
                f"{', '.join(program.inputs)}"
            )
    return program


def _read_file(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise ModelError(f"model {path} does not exist")
    if path.is_dir():
        raise ModelError(f"model {path} is a folder; give an .onnx file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror or error}") from error
    if not data:
        raise ModelError(f"model {path} is empty (0 bytes); export or copy it again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"model {path} is not an ONNX file, or it is truncated ({len(data)} bytes); "
            "export or copy it again"
        ) from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"model {path} is not an ONNX model: it has no graph")
    _load_external_data(model, path)
    return model


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    folder = path.resolve().parent
    for weight in _external_tensors(model):
        entries = {entry.key: entry.value for entry in weight.external_data}
        location = entries.get("location", "")
        pure = PurePosixPath(location)
        where = f"model {path}: the external data of {weight.name!r}"
        if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
            raise ModelError(
                f"{where} points outside of the model's folder ({location!r}); "
                "save the model with its data beside it"
            )
        file = folder / location
        if not file.exists():
            raise ModelError(
                f"{where} is missing: there is no file {file}; copy it beside the model"
            )
        if file.is_symlink() or not file.resolve().is_relative_to(folder):
            raise ModelError(f"{where} is a link ({file}); put the file itself beside the model")
        offset, length = _non_negative(entries, "offset"), _non_negative(entries, "length")
        if offset is None or length is None or offset + length > file.stat().st_size:
            raise ModelError(
                f"{where} does not fit {file} ({file.stat().st_size} bytes); copy the file again"
            )
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # the checks inside onnx raise several unrelated types
        raise ModelError(f"model {path}: external data cannot be loaded: {error}") from error


def _non_negative(entries: Mapping[str, str], key: str) -> int | None:
    text = entries.get(key, "0")
    return int(text) if text.isdecimal() else None


def _external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    found: list[onnx.TensorProto] = []

    def visit(nodes: list[onnx.NodeProto]) -> None:
        for node in nodes:
            for attribute in node.attribute:
                found.extend(t for t in (attribute.t, *attribute.tensors) if _is_external(t))
                for body in (attribute.g, *attribute.graphs):
                    found.extend(t for t in body.initializer if _is_external(t))
                    visit(list(body.node))

    found.extend(t for t in model.graph.initializer if _is_external(t))
    visit(list(model.graph.node))
    for function in model.functions:
        visit(list(function.node))
    return found


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _check(model: onnx.ModelProto, path: Path | None) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {path or model.graph.name!r} is refused by the ONNX checker: {reason}"
        ) from error
    except (ValueError, RuntimeError) as error:  # over 2 GiB the checker cannot serialise it
        if model.ByteSize() < 2**31:
            raise ModelError(f"model {path}: {error}") from error
    if not model.graph.output:
        raise ModelError(f"model {path or model.graph.name!r} has no outputs")


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    import onnx.inliner

    return onnx.inliner.inline_local_functions(model)
