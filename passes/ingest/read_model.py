"""Reads an ONNX file that may be hostile, and gives a program in normal form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from partc.errors import ModelError, UsageError
from partc.ir.program import Array, Program
from partc.passes import surgery
from partc.passes.ingest.external_data import external_tensors, load_external_data
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
    if path is None and (outside := next(external_tensors(model), None)) is not None:
        raise ModelError(
            f"weight {outside.name!r} lies in a file and the model was given in memory; give the "
            "model's path instead"
        )
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
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"model {path} is not an ONNX file, or it is truncated ({len(data)} bytes); "
            "export or copy it again"
        ) from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"model {path} is not an ONNX model: it has no graph")
    load_external_data(model, path)
    return model


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
