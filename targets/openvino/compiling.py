"""Reads a model into OpenVINO and compiles it as segments are deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partc.errors import TargetError
from partc.targets.openvino.library import core, sentence
from partc.targets.protocol import RunSettings

DEVICE = "CPU"
# Without a hint the plug-in computes in bfloat16 wherever the processor can, which changes answers.
_PRECISIONS = {"all": "f32", "f32": "f32", "bf16": "bf16", "f16": "f16"}


def read_model(model: bytes | Path) -> Any:
    """OpenVINO's form of an ONNX model.

    Raises:
        TargetError: OpenVINO refuses it.
    """
    try:
        if isinstance(model, bytes):
            return core().read_model(model, b"")
        return core().read_model(str(model))
    except RuntimeError as error:
        raise TargetError(f"OpenVINO cannot load the model: {sentence(error)}") from error


def compile_model(read: Any, settings: RunSettings, *, counting: bool = False) -> Any:
    """A model that can run, for one request at a time.

    Args:
        counting: keep the time of every kernel.

    Raises:
        TargetError: OpenVINO has no such level, or refuses the model.
    """
    if settings.optimization not in _PRECISIONS:
        raise TargetError(
            f"openvino has no optimisation level {settings.optimization!r}: its levels are the "
            f"precisions {', '.join(_PRECISIONS)}, where all means f32"
        )
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": settings.threads,
        "INFERENCE_PRECISION_HINT": _PRECISIONS[settings.optimization],
        # Several hosts may be emulated on one machine: pinned, all would share the first cores.
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": counting,
    }
    try:
        return core().compile_model(read, DEVICE, properties)
    except RuntimeError as error:
        raise TargetError(f"OpenVINO cannot compile the model: {sentence(error)}") from error
