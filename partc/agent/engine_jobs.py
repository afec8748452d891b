"""Builds engines on the node, in the process that carries out jobs."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from partc.agent.messages import EngineJob, Job, SourceFile, printable
from partc.agent.packing import check_references
from partc.bundle.engine_store import EngineStore
from partc.errors import BundleError, RequestError, UnbuildableError
from partc.ir.engine import Gpu, engine_key, source_digest
from partc.targets.engines import EngineBackend, engine_backend

Tell = Callable[[dict[str, Any]], None]

_MOST_LINES = 200
_LONGEST_REASON = 2000


def find_builders(job: Job) -> dict[str, Any]:
    """The answer to a job of kind ``builders``: `partc.agent.messages.Builders`.

    Raises:
        RequestError: the backend runs no engines.
    """
    backend, asked = _read(job)
    gpus, reason = backend.builders(asked.capabilities)
    return {
        "gpus": [gpu.model_dump(mode="json") for gpu in gpus],
        "reason": printable(reason, _LONGEST_REASON),
    }


def build_engine(job: Job, blobs: Path, tell: Tell) -> dict[str, Any]:
    """The answer to a job of kind ``build``: `partc.agent.messages.BuiltEngine`, where instead of
    a digest stands the name of a file in the current folder.

    Raises:
        RequestError: the job is malformed, or is for a GPU that is not built for here.
        TargetError: the build failed for a reason that is not the segment's.
    """
    backend, asked = _read(job)
    if asked.recipe is None or asked.gpu is None or not asked.files:
        raise RequestError("a job that builds an engine needs files, a recipe and a GPU")
    if asked.recipe.flavour != backend.flavour:
        raise RequestError(f"backend {job.backend!r} builds no {asked.recipe.flavour} engines")
    gpus, reason = backend.builders((asked.gpu.compute_capability,))
    if asked.gpu not in gpus:
        raise RequestError(
            f"no engine is built here for compute capability {asked.gpu.compute_capability} by "
            f"{asked.gpu.flavour} {printable(asked.gpu.version, 40)}: "
            f"{reason or 'the node is not what it was'}; run the command again"
        )
    log = _Log(tell)
    output = Path(f"engine-{uuid.uuid4().hex}").absolute()
    with tempfile.TemporaryDirectory(prefix="segment-", dir=Path.cwd()) as folder:
        model = _laid_out(asked.files, blobs, Path(folder))
        try:
            backend.build(
                model, asked.recipe, asked.gpu, output,
                timing_cache=_timing_cache(backend, asked.gpu), progress=log,
            )  # fmt: skip
        except UnbuildableError as error:
            output.unlink(missing_ok=True)
            return {"refused": printable(str(error), _LONGEST_REASON)}
        except OSError as error:
            output.unlink(missing_ok=True)
            raise RequestError(f"the engine cannot be written: {error.strerror}") from error
    digest = source_digest(file.sha256 for file in asked.files)
    return {
        "key": engine_key(asked.recipe, digest, asked.gpu).model_dump(mode="json"),
        "build_s": round(log.passed_s, 3),
        "log": log.lines,
        "file": output.name,
    }


def _read(job: Job) -> tuple[EngineBackend, EngineJob]:
    backend = engine_backend(job.backend)
    if backend is None:
        raise RequestError(f"no backend named {job.backend[:80]!r} builds engines here")
    return backend, job.engine or EngineJob()


def _timing_cache(backend: EngineBackend, gpu: Gpu) -> Path | None:
    """Where builds that time a GPU keep what they found, as those of ``partc build`` do."""
    if backend.capabilities:
        return None
    try:
        return EngineStore().timing_cache(gpu)
    except BundleError:  # slower, and nothing else
        return None


def _laid_out(files: list[SourceFile], blobs: Path, folder: Path) -> Path:
    """The files of a segment, under the names by which they refer to each other."""
    names = [file.name for file in files]
    if len(set(names)) != len(names):
        raise RequestError("two files of the segment have one name")
    check_references((blobs / files[0].sha256).read_bytes(), names[1:])
    for file in files:
        # A copy: libraries refuse links, and the original is shared with other jobs.
        shutil.copyfile(blobs / file.sha256, folder / file.name)
    return folder / files[0].name


class _Log:
    """Passes on what a builder is at, and keeps when each phase began."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._started_s = time.monotonic()
        self._phase = ""
        self.lines: list[str] = []

    @property
    def passed_s(self) -> float:
        """Since the build began."""
        return time.monotonic() - self._started_s

    def __call__(self, phase: str, fraction: float | None) -> None:
        phase = printable(phase, 200)
        if phase != self._phase:
            self._phase = phase
            if len(self.lines) < _MOST_LINES:
                self.lines.append(f"{self.passed_s:.1f} s: {phase}")
        share = None if fraction is None else min(max(fraction, 0.0), 1.0)
        self._tell({"phase": phase, "fraction": share})
