"""What a backend offers whose segments are built into engines before they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from partc.ir.engine import EngineRecipe, Flavour, Gpu
from partc.targets.protocol import Runner

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done, or None where that is unknown."""


@runtime_checkable
class EngineBackend(Protocol):
    """Besides what every `partc.targets.protocol.Backend` offers."""

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
            TargetError: the segment or the recipe cannot be built, or the build was killed.
            OSError: the disk is full, or a file cannot be read or written.
        """

    def engine_runner(self, engine: Path, recipe: EngineRecipe) -> Runner:
        """Load an engine.

        Raises:
            TargetError: it does not load here.
        """
