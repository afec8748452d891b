"""The backend that runs whole models and constants at compile time: ONNX Runtime on this CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from partc.targets.engines import EngineBackend
from partc.targets.loading import open_model
from partc.targets.protocol import Backend, Runner, RunSettings
from partc.targets.registry import backend_names, load_backend

REFERENCE_BACKEND = "onnxruntime"


@contextmanager
def open_reference(model: onnx.ModelProto, settings: RunSettings | None = None) -> Iterator[Runner]:
    """A runner of ``model``, whatever its size.

    Raises:
        TargetError: ONNX Runtime refuses it.
    """
    with open_model(model, load_backend(REFERENCE_BACKEND), settings) as runner:
        yield runner


def backend_here(name: str) -> Backend:
    """What runs a segment on this machine for the sake of its answers: the named backend, or the
    reference where that one is not here, or first has to build an engine."""
    if name not in backend_names():
        return load_backend(REFERENCE_BACKEND)
    backend = load_backend(name)
    if isinstance(backend, EngineBackend) or not backend.detect().available:
        return load_backend(REFERENCE_BACKEND)
    return backend
