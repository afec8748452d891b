"""What ONNX Runtime, which of its providers and which processor this machine has."""

from __future__ import annotations

import platform

import onnxruntime as ort

from partc.targets.machine import gpu_names, processor_name
from partc.targets.onnxruntime.providers import CPU, missing, why_not_started
from partc.targets.protocol import Detection


def detect(provider: str = "") -> Detection:
    """The CPU is always available, since partc depends on onnxruntime; other providers are where
    they start: they are listed wherever onnxruntime was built with them, with and without a device.

    Raises:
        TargetError: ONNX Runtime knows no such provider.
    """
    provider = provider or CPU
    reason = missing(provider) or why_not_started(provider)
    short = provider.removesuffix("ExecutionProvider").lower()
    parts = [f"onnxruntime-{ort.__version__}-{short}", platform.machine(), processor_name()]
    if provider != CPU:
        parts += gpu_names()
    return Detection(not reason, reason, ort.__version__, "/".join(parts))
