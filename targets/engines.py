"""What a backend offers whose segments are built into engines before they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from partc.ir.engine import EngineRecipe, Flavour, Gpu
from partc.ir.engine_folder import timing_cache
from partc.targets.protocol import Runner
from partc.targets.registry import backend_names, load_backend

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done, or None where that is unknown."""


@runtime_checkable
class EngineBackend(Protocol):
    """Besides what every `partc.targets.protocol.Backend` offers."""

    @property
    def name(self) -> str:
        """As in ``partc targets``."""

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that it builds for without such a GPU."""

    def gpu(self) -> Gpu | None:
        """The GPU that is here with what runs engines on it; None where `detect` says why."""

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """GPUs that engines can be built for on this machine; and why there are none, or not more.

        Args:
            capabilities: what the user named; None to leave it to the backend.
        """

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
        """Build a segment for ``gpu`` and write the engine to ``output``.

        Raises:
            UnbuildableError: the builder refuses the segment.
        TargetError: the recipe cannot be followed, or the build was killed.
            OSError: the disk is full, or a file cannot be read or written.
        """

    def engine_runner(
        self, engine: Path, recipe: EngineRecipe, *, allow_code: bool = False
    ) -> Runner:
        """Load an engine.

        Args:
            allow_code: run machine code that the engine may carry. Only for an engine of whose
                origin the caller is sure: a recipe comes with a bundle and is no proof.

        Raises:
            TargetError: it does not load here.
        """


@dataclass(frozen=True)
class EngineSource:
    """The ONNX that an engine is built from.

    Attributes:
        files: the model first, then the files with weights that it refers to; all in one folder.
    """

    files: tuple[Path, ...]


class EngineBuilder(Protocol):
    """Builds the engines of a host while a model is compiled: on this machine, or on a node."""

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""

    @property
    def where(self) -> str:
        """Through which agent; empty for this machine."""

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """As `EngineBackend.builders`.

        Raises:
            TargetError: the node cannot be asked.
        """

    def build(
        self,
        source: EngineSource,
        recipe: EngineRecipe,
        gpu: Gpu,
        output: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        """As `EngineBackend.build`."""


@dataclass(frozen=True)
class LocalBuilder:
    """Builds on this machine."""

    backend: EngineBackend
    where: str = ""

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""
        return self.backend.flavour

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """GPUs that engines can be built for on this machine."""
        return self.backend.builders(capabilities)

    def build(
        self,
        source: EngineSource,
        recipe: EngineRecipe,
        gpu: Gpu,
        output: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Build a segment for ``gpu``."""
        # Where no GPU is timed there is nothing to keep.
        cache = None if self.backend.capabilities else timings_of(gpu)
        self.backend.build(
            source.files[0], recipe, gpu, output, timing_cache=cache, progress=progress
        )


def timings_of(gpu: Gpu) -> Path | None:
    """Where builds on this machine keep what they timed; None where nothing can be kept, which
    makes them slower and nothing else."""
    try:
        return timing_cache(gpu)
    except OSError:
        return None


def engine_backend(name: str) -> EngineBackend | None:
    """The backend of that name, where it is installed and runs engines."""
    if name not in backend_names():
        return None
    backend: object = load_backend(name)
    return backend if isinstance(backend, EngineBackend) else None
