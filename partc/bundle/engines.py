"""Which engine a host may load: the files it has, checked, against the machine it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from partc.bundle.integrity import check_file
from partc.errors import IntegrityError
from partc.ir.engine import EngineEntry, EngineFile, Gpu, mismatch

if TYPE_CHECKING:
    from partc.bundle.reader import Bundle


@dataclass(frozen=True)
class Candidate:
    """An engine file that was found.

    Attributes:
        file: what it should be.
        path: where it is.
        problem: why it cannot be used, whatever the machine; empty if it is whole.
        is_built_here: it comes from the store of this machine's user, and from nobody else.
    """

    file: EngineFile
    path: Path
    problem: str = ""
    is_built_here: bool = False


@dataclass(frozen=True)
class Decision:
    """What to run a segment with.

    Attributes:
        engine: the engine to take.
        reason: why no engine is taken, or why it is built anew; empty when one is taken.
    """

    action: Literal["take", "build", "fall_back"]
    engine: Candidate | None
    reason: str


def decide(
    entry: EngineEntry,
    gpu: Gpu | None,
    candidates: Sequence[Candidate],
    *,
    no_gpu: str = "",
    no_build: str = "",
) -> Decision:
    """Take an engine that fits exactly; else build one where that can be done; else fall back.

    Args:
        gpu: what this machine has; None where engines cannot run.
        candidates: engine files that were found, the preferred first.
        no_gpu: why ``gpu`` is None.
        no_build: why no engine is to be built here; empty where one may be.
    """
    if gpu is None:
        return Decision("fall_back", None, no_gpu or "there is no GPU that runs engines")
    if gpu.flavour != entry.recipe.flavour:
        why = f"the segment is for {entry.recipe.flavour} and this machine has {gpu.flavour}"
        return Decision("fall_back", None, why)
    reasons: list[str] = []
    for candidate in candidates:
        # Whether it fits is known from its key; only then is it worth saying that it is broken.
        why = mismatch(candidate.file.key, entry, gpu) or candidate.problem
        if not why:
            return Decision("take", candidate, "")
        reasons.append(why)
    reason = (
        f"none of {len(reasons)} engines fits: {reasons[0]}"
        if len(reasons) > 1
        else f"the engine does not fit: {reasons[0]}"
        if reasons
        else "there is no engine yet"
    )
    if no_build:
        return Decision("fall_back", None, f"{reason}; {no_build}")
    return Decision("build", None, reason)


def bundled(bundle: Bundle, entry: EngineEntry) -> list[Candidate]:
    """The engines that the bundle brings, each checked against the manifest."""
    found: list[Candidate] = []
    for file in entry.built:
        problem = ""
        try:
            check_file(bundle.path, file.path, bundle.manifest.files[file.path])
        except IntegrityError as error:
            problem = str(error)
        found.append(Candidate(file, bundle.path / file.path, problem))
    return found
