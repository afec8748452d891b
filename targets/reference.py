"""The backend that runs whole models and constants at compile time: ONNX Runtime on this CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from partc.targets.loading import open_model
from partc.targets.protocol import Runner, RunSettings
from partc.targets.registry import load_backend

REFERENCE_BACKEND = "onnxruntime"


@contextmanager
def open_reference(model: onnx.ModelProto, settings: RunSettings | None = None) -> Iterator[Runner]:
    """A runner of ``model``, whatever its size.

    Raises:
        TargetError: ONNX Runtime refuses it.
    """
    with open_model(model, load_backend(REFERENCE_BACKEND), settings) as runner:
        yield runner
