"""ONNX Runtime's execution providers: which there are here, and how to get the others."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from partc.errors import MissingBackendError, TargetError
from partc.suggest import unknown_name
from partc.targets.clocks import ClockKind
from partc.targets.protocol import RunSettings

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_INSTEAD = "pip uninstall onnxruntime && pip install {}"
_HOW = {
    CUDA: _INSTEAD.format("onnxruntime-gpu"),
    TENSORRT: _INSTEAD.format("onnxruntime-gpu") + ", and install TensorRT 10",
    "NvTensorRTRTXExecutionProvider": "install an onnxruntime that was built with TensorRT-RTX",
    "OpenVINOExecutionProvider": _INSTEAD.format("onnxruntime-openvino"),
    "CoreMLExecutionProvider": "it comes with onnxruntime on macOS, and only there",
    "DmlExecutionProvider": _INSTEAD.format("onnxruntime-directml") + " (Windows)",
    "QNNExecutionProvider": _INSTEAD.format("onnxruntime-qnn"),
    "MIGraphXExecutionProvider": _INSTEAD.format("onnxruntime-migraphx"),
}


def provider_of(settings: RunSettings) -> str:
    """The provider that runs the segments."""
    return settings.provider or CPU


def missing(provider: str) -> str:
    """Why a provider cannot be used here and how to get it; empty where it can.

    Raises:
        TargetError: ONNX Runtime knows no such provider.
    """
    provider = provider or CPU
    if provider in ort.get_available_providers():
        return ""
    known: list[str] = ort.get_all_providers()
    if provider not in known:
        raise TargetError(unknown_name("execution provider", provider, known))
    how = _HOW.get(provider, "install an onnxruntime that was built with it")
    return f"this onnxruntime ({ort.__version__}) has no {provider}: {how}"


def as_asked(settings: RunSettings) -> list[Any]:
    """What a session is given: the provider, and the CPU for the ops that it leaves out.

    What TensorRT leaves out stays on the GPU where CUDA is there, or its tensors would travel to
    the processor and back.

    Raises:
        MissingBackendError: the provider is not here.
    """
    provider = provider_of(settings)
    if provider == CPU and not settings.provider_options:
        return [CPU]
    if why := missing(provider):
        raise MissingBackendError(why)
    asked = (provider, dict(settings.provider_options))
    if provider == CPU:
        return [asked]
    if provider == TENSORRT and not missing(CUDA):
        return [asked, (CUDA, _same_device(settings)), CPU]
    return [asked, CPU]


def _same_device(settings: RunSettings) -> dict[str, str]:
    return {name: value for name, value in settings.provider_options if name == "device_id"}


def refuse_fallback(session: Any, settings: RunSettings) -> None:
    """Stop where ONNX Runtime went on without the provider, as it does after a warning.

    Raises:
        MissingBackendError: the session runs elsewhere.
    """
    provider = provider_of(settings)
    if provider not in session.get_providers():
        how = _HOW.get(provider, "install what it needs")
        raise MissingBackendError(
            f"{provider} did not start, and ONNX Runtime fell back to "
            f"{', '.join(session.get_providers())}: its libraries or its hardware are missing "
            f"({how}, and look at its driver)"
        )


def clock_for(settings: RunSettings) -> ClockKind:
    """The CPU provider works in the calling thread; the others somewhere else."""
    return "caller" if provider_of(settings) == CPU else "wall"
