"""ONNX Runtime: on the CPU the backend that works on any machine, and its other providers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from partc.targets.protocol import Array, Detection, Profile, Runner, RunSettings, Sampling


class OnnxRuntimeBackend:
    """Delegates to one module per task; ONNX Runtime is imported when one is first used."""

    name = "onnxruntime"

    def detect(self) -> Detection:
        """Version and processor."""
        from partc.targets.onnxruntime.detect import detect

        return detect()

    def detect_provider(self, provider: str) -> Detection:
        """The same, of one execution provider."""
        from partc.targets.onnxruntime.detect import detect

        return detect(provider)

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Ops without a schema in this build of ONNX Runtime."""
        from partc.targets.onnxruntime.supports import unsupported

        return unsupported(model)

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Groups read off the optimised graph."""
        from partc.targets.onnxruntime.fusion import optimise

        return optimise(model, settings).groups

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Kernel times by ONNX Runtime's profiler, and whole runs without it."""
        from partc.targets.onnxruntime.profiler import profile

        return profile(model, feeds, settings, sampling)

    def runner(self, model: bytes | Path, settings: RunSettings) -> Runner:
        """A session."""
        from partc.targets.onnxruntime.runner import OnnxRuntimeRunner

        return OnnxRuntimeRunner(model, settings)


BACKEND = OnnxRuntimeBackend()
