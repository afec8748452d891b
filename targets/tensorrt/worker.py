"""Work that is done in a process of its own: ``python -m partc.targets.tensorrt.worker FLAVOUR``.

TensorRT ends the process in some cases where there is no GPU, takes gigabytes while it builds, and
writes to standard output; none of that may happen to whoever asked. The job is one JSON object on
standard input; the answers are JSON lines on standard output.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from partc.errors import PartcError, UnbuildableError
from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.flavour import LIBRARIES, Library
from partc.targets.tensorrt.timings import keep_timings, read_timings

_RESTARTED = "PARTC_WORKER_RESTARTED"
_QUERY, _NO_RANDOM_ADDRESSES = 0xFFFFFFFF, 0x0040000

Say = Callable[[dict[str, Any]], None]


def probe(library: Library, job: dict[str, Any]) -> dict[str, Any]:
    """Version of the library, and the GPU if there is one that it can use."""
    from partc.targets.tensorrt.cuda import Cuda
    from partc.targets.tensorrt.platform import current_platform

    found: dict[str, Any] = {"library": None, "gpu": None, "platform": current_platform()}
    try:
        trt = library.load()
        found["library"] = str(trt.__version__)
    except PartcError as error:
        return {**found, "reason": str(error)}
    if why := library.why_too_old(found["library"]):
        return {**found, "reason": why}  # much of what follows is not in it
    try:
        cuda = Cuda()
    except PartcError as error:
        return {**found, "reason": str(error)}
    found["gpu"] = {
        "name": cuda.name(),
        "compute_capability": cuda.compute_capability(),
        "memory_mib": cuda.memory_bytes() >> 20,
    }
    if library.flavour == "tensorrt":
        # Only here: without a GPU some versions crash.
        from partc.targets.tensorrt.log import make_logger

        found["gpu"]["dla_cores"] = max(0, trt.Runtime(make_logger(trt)).num_DLA_cores)
    return found


def supports(library: Library, job: dict[str, Any]) -> dict[str, Any]:
    """Node name -> why the parser refuses it."""
    from partc.targets.tensorrt.parsing import refused_nodes

    return {"refused": refused_nodes(library, Path(job["model"]))}


def build(library: Library, job: dict[str, Any], say: Say) -> dict[str, Any]:
    """Write the engine, and the timing cache that it leaves."""
    from partc.targets.tensorrt.building import build_engine

    cache = Path(job["timing_cache"]) if job["timing_cache"] else None

    def tell(phase: str, fraction: float | None) -> None:
        say({"phase": phase, "fraction": fraction})

    engine, timings = build_engine(
        library,
        Path(job["model"]),
        EngineRecipe.model_validate(job["recipe"]),
        capability=job["capability"],
        timing_cache=read_timings(cache),
        detailed=job["detailed"],
        # Where no GPU is timed a build takes seconds, and telling of it would change its threads.
        progress=None if library.capabilities else tell,
    )
    with os.fdopen(job["output"], "wb") as file:
        file.write(engine)
    keep_timings(cache, timings)
    return {"size_bytes": len(engine)}


def _same_addresses(library: Library) -> None:
    """Start this process again with memory where it was the last time.

    TensorRT-RTX orders and numbers parts of an engine by where they happened to lie: without this,
    no two builds of one segment are the same file. Where it is not allowed, nothing is lost but
    that.
    """
    if sys.platform != "linux" or os.environ.get(_RESTARTED):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    current = libc.personality(ctypes.c_ulong(_QUERY))
    if current < 0 or current & _NO_RANDOM_ADDRESSES:
        return
    if libc.personality(ctypes.c_ulong(current | _NO_RANDOM_ADDRESSES)) < 0:
        return
    os.environ[_RESTARTED] = "1"
    if library.capabilities:
        # It builds for a GPU that it does not ask, so nothing is timed; and threads that ran side
        # by side would lay memory out in another way each time.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.execv(sys.executable, [sys.executable, "-P", "-m", __spec__.name, *sys.argv[1:]])


def main() -> int:
    """Do one job."""
    library = LIBRARIES[sys.argv[1]]
    _same_addresses(library)
    # Libraries print to standard output; the answers go where it was.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    job = json.load(sys.stdin)
    try:
        if job["job"] == "build":
            say({"done": build(library, job, say)})
        else:
            say({"done": {"probe": probe, "supports": supports}[job["job"]](library, job)})
    except PartcError as error:
        say({"error": str(error), "is_unbuildable": isinstance(error, UnbuildableError)})
    except OSError as error:
        say({"errno": error.errno or errno.EIO})
    return 0


if __name__ == "__main__":
    sys.exit(main())
