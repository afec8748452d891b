"""Hands a model in memory to a backend, whatever its size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from partc.targets.protocol import Backend, Runner, RunSettings

LARGEST_IN_MEMORY_BYTES = 2**31 - 2**20
"""Past 2 GiB protobuf writes no message; a little room is left for what a backend adds."""


@contextmanager
def loadable(model: onnx.ModelProto) -> Iterator[bytes | Path]:
    """The model serialised, or, where it is too large for that, as a file with its weights
    beside it, which is there until the context ends."""
    if model.ByteSize() < LARGEST_IN_MEMORY_BYTES:
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path = Path(folder) / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        yield path


@contextmanager
def open_model(
    model: onnx.ModelProto, backend: Backend, settings: RunSettings | None = None
) -> Iterator[Runner]:
    """A runner of ``model`` on a backend.

    Raises:
        TargetError: the backend refuses it.
    """
    with (
        loadable(model) as source,
        backend.runner(source, settings or RunSettings()) as runner,
    ):
        yield runner
