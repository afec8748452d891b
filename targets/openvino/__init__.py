"""OpenVINO on the CPU: a second backend for any machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from partc.targets.protocol import Array, Detection, Profile, Runner, RunSettings, Sampling


class OpenVinoBackend:
    """Delegates to one module per task; OpenVINO is imported when one is first used."""

    name = "openvino"

    def detect(self) -> Detection:
        """Version and processor."""
        from partc.targets.openvino.detect import detect

        return detect()

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Ops that OpenVINO does not convert or its CPU plug-in does not run."""
        from partc.targets.openvino.supports import unsupported

        return unsupported(model)

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Groups read off the compiled model."""
        from partc.targets.openvino.fusion import fused_groups

        return fused_groups(model, settings)

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Kernel times by OpenVINO's counters, and whole runs without them."""
        from partc.targets.openvino.profiler import profile

        return profile(model, feeds, settings, sampling)

    def runner(self, model: bytes | Path, settings: RunSettings) -> Runner:
        """A compiled model."""
        from partc.targets.openvino.runner import OpenVinoRunner

        return OpenVinoRunner(model, settings)


BACKEND = OpenVinoBackend()
