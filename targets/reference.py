"""The backend that runs whole models and constants at compile time: ONNX Runtime on this CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from partc.targets.protocol import Runner, RunSettings
from partc.targets.registry import load_backend

REFERENCE_BACKEND = "onnxruntime"
_LARGEST_IN_MEMORY_BYTES = 2**31 - 2**20


@contextmanager
def open_reference(model: onnx.ModelProto, settings: RunSettings | None = None) -> Iterator[Runner]:
    """A runner of ``model``, whatever its size.

    Raises:
        TargetError: ONNX Runtime refuses it.
    """
    settings = settings or RunSettings()
    backend = load_backend(REFERENCE_BACKEND)
    if model.ByteSize() < _LARGEST_IN_MEMORY_BYTES:
        with backend.runner(model.SerializeToString(), settings) as runner:
            yield runner
        return
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path = Path(folder) / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        with backend.runner(path, settings) as runner:
            yield runner
