"""ONNX Runtime's execution providers: which there are here, and how to get the others."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
import onnxruntime as ort

from partc.errors import MissingBackendError, TargetError
from partc.suggest import unknown_name
from partc.targets.clocks import ClockKind
from partc.targets.protocol import RunSettings

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_LONGEST = 200
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


@cache
def why_not_started(provider: str) -> str:
    """Why a provider that was built in does not start here; empty where it does."""
    if provider == CPU:
        return ""
    settings = RunSettings(provider=provider)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters is in the sentence
    try:
        session = ort.InferenceSession(_text_model(), options, providers=as_asked(settings))
        refuse_fallback(session, settings)
    except TargetError as error:
        return error.message
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        return f"{provider} did not start: {str(error).strip().partition(chr(10))[0][:_LONGEST]}"
    return ""


def _text_model() -> bytes:
    """A model on texts, which no accelerator takes: nothing is compiled for it."""
    text = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "text",
        [text("x", onnx.TensorProto.STRING, [1])],
        [text("y", onnx.TensorProto.STRING, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def clock_for(settings: RunSettings) -> ClockKind:
    """The CPU provider works in the calling thread; the others somewhere else."""
    return "caller" if provider_of(settings) == CPU else "wall"
