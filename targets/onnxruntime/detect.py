"""What ONNX Runtime and which processor this machine has."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnxruntime as ort

from partc.targets.protocol import Detection


@cache
def detect() -> Detection:
    """Always available: partc depends on onnxruntime."""
    return Detection(
        available=True,
        reason="",
        version=ort.__version__,
        fingerprint=f"onnxruntime-{ort.__version__}-cpu/{platform.machine()}/{_processor()}",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
