"""Builds engines, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partc.errors import TargetError
from partc.ir.engine import EngineRecipe, Gpu
from partc.targets.engines import Progress
from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library

LONGEST_BUILD_S = 4 * 3600.0


def builders(library: Library, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
    """The GPU that is here, which is the one that TensorRT builds for."""
    machine = machine_of(library.flavour)
    if machine.gpu is None:
        return (), machine.reason
    if capabilities and machine.gpu.compute_capability not in capabilities:
        return (), (
            f"the GPU here has compute capability {machine.gpu.compute_capability}, and engines "
            f"are wanted for {', '.join(capabilities)}"
        )
    return (machine.gpu,), ""


def build(
    library: Library,
    model: Path,
    recipe: EngineRecipe,
    gpu: Gpu,
    output: Path,
    *,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
    detailed: bool = False,
) -> None:
    """Build a segment for ``gpu`` and write the engine to ``output``.

    Raises:
        UnbuildableError: the builder refuses the segment.
        TargetError: the recipe cannot be followed, or the build was killed.
        OSError: the disk is full, or a file cannot be read or written.
    """
    if recipe.flavour != library.flavour:
        raise TargetError(f"a recipe for {recipe.flavour} is no recipe for {library.title}")
    # The worker runs beside the model and is told no path: the length of one would move what it
    # has in memory, and so change the engine (see the worker).
    job: dict[str, Any] = {
        "job": "build",
        "model": model.name,
        "recipe": recipe.model_dump(mode="json"),
        # TensorRT builds for the GPU that it finds; TensorRT-RTX is told.
        "capability": gpu.compute_capability if library.capabilities else None,
        "timing_cache": str(timing_cache.absolute()) if timing_cache is not None else "",
        "detailed": detailed,
    }
    try:
        with output.open("wb") as file:
            job["output"] = file.fileno()
            done = ask(
                library,
                job,
                timeout_s=LONGEST_BUILD_S,
                progress=progress,
                folder=model.absolute().parent,
                files=(file.fileno(),),
            )
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    if not output.is_file() or output.stat().st_size != done["size_bytes"]:
        raise TargetError(f"{library.title} wrote no whole engine to {output}")
