"""A backend of one of the two libraries; delegates to one module per task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from partc.ir.engine import EngineRecipe, Flavour, Gpu
from partc.targets.engines import Progress
from partc.targets.protocol import Array, Detection, Profile, Runner, RunSettings, Sampling
from partc.targets.tensorrt.flavour import TENSORRT, TENSORRT_RTX, Library


@dataclass(frozen=True)
class TensorRtBackend:
    """TensorRT, and what TensorRT-RTX has in common with it."""

    library: Library

    @property
    def name(self) -> str:
        """As targets name it."""
        return self.library.backend

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""
        return self.library.flavour

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that it builds for without such a GPU."""
        return self.library.capabilities

    def detect(self) -> Detection:
        """Whether engines run here: the library and a GPU are needed."""
        from partc.targets.tensorrt.detect import detect

        return detect(self.library)

    def gpu(self) -> Gpu | None:
        """The GPU that is here."""
        from partc.targets.tensorrt.detect import machine_of

        return machine_of(self.flavour).gpu

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Ops that the real parser refuses."""
        from partc.targets.tensorrt.supports import unsupported

        other = TENSORRT_RTX if self.library is TENSORRT else TENSORRT
        return unsupported(model, (self.library, other))

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """None: what fuses is known once an engine is built, and changes with where it is cut."""
        return []

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Layer times by the engine's profiler, and whole runs without it."""
        from partc.targets.tensorrt.profiler import profile

        return profile(self.library, model, feeds, settings, sampling)

    def runner(self, model: bytes | Path, settings: RunSettings) -> Runner:
        """An engine built here and now, or at the first run where a dimension is open."""
        from partc.targets.tensorrt.immediate import open_any

        return open_any(self.library, model, EngineRecipe.of(self.flavour, settings.engine))

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """GPUs that engines can be built for on this machine."""
        from partc.targets.tensorrt.builder import builders

        return builders(self.library, capabilities)

    def build(
        self,
        model: Path,
        recipe: EngineRecipe,
        gpu: Gpu,
        output: Path,
        *,
        timing_cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Build a segment for ``gpu``."""
        from partc.targets.tensorrt.builder import build

        build(
            self.library, model, recipe, gpu, output, timing_cache=timing_cache, progress=progress
        )

    def engine_runner(
        self, engine: Path, recipe: EngineRecipe, *, allow_code: bool = False
    ) -> Runner:
        """Load an engine."""
        from partc.targets.tensorrt.runner import EngineRunner

        return EngineRunner(self.library, engine, recipe, allow_code=allow_code)
