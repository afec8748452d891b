"""The backend that runs whole models and constants at compile time: ONNX Runtime on this CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx

from partc.errors import TargetError
from partc.targets.engines import EngineBackend
from partc.targets.loading import open_model
from partc.targets.meter import detection_of
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


@dataclass(frozen=True)
class Executor:
    """What runs a host's segments on this machine for the sake of their answers.

    Attributes:
        instead: why it is the reference and not the host's own backend; empty where it is not.
    """

    backend: Backend
    settings: RunSettings
    instead: str = ""


def executor_here(name: str, settings: RunSettings) -> Executor:
    """The named backend, or the reference where that one, or the provider of the settings, is not
    here, or where it first has to build an engine."""
    why = _why_not_here(name, settings)
    if not why:
        return Executor(load_backend(name), settings)
    return Executor(load_backend(REFERENCE_BACKEND), RunSettings(threads=settings.threads), why)


def _why_not_here(name: str, settings: RunSettings) -> str:
    if name not in backend_names():
        return f"no backend named {name!r} is installed here"
    try:
        backend = load_backend(name)
    except TargetError as error:
        return str(error)
    if isinstance(backend, EngineBackend):
        return f"{name} runs engines, which are checked when they are built"
    found = detection_of(backend, settings.provider)
    return "" if found.available else found.reason
