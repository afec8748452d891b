"""What ONNX Runtime, which of its providers and which processor this machine has."""

from __future__ import annotations

import platform

import onnxruntime as ort

from partc.targets.machine import gpu_names, processor_name
from partc.targets.onnxruntime.providers import CPU, missing
from partc.targets.protocol import Detection


def detect(provider: str = "") -> Detection:
    """The CPU is always available, since partc depends on onnxruntime; other providers may be.

    Raises:
        TargetError: ONNX Runtime knows no such provider.
    """
    provider = provider or CPU
    reason = missing(provider)
    short = provider.removesuffix("ExecutionProvider").lower()
    parts = [f"onnxruntime-{ort.__version__}-{short}", platform.machine(), processor_name()]
    if provider != CPU:
        parts += gpu_names()
    return Detection(not reason, reason, ort.__version__, "/".join(parts))
