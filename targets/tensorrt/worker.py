"""Work that is done in a process of its own: ``python -m partc.targets.tensorrt.worker FLAVOUR``.

TensorRT ends the process in some cases where there is no GPU, takes gigabytes while it builds, and
writes to standard output; none of that may happen to whoever asked. The job is one JSON object on
standard input; the answers are JSON lines on standard output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from partc.errors import PartcError
from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.flavour import LIBRARIES, Library

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
    engine, timings = build_engine(
        library,
        Path(job["model"]),
        EngineRecipe.model_validate(job["recipe"]),
        capability=job["capability"],
        timing_cache=cache.read_bytes() if cache is not None and cache.exists() else b"",
        detailed=job["detailed"],
        progress=lambda phase, fraction: say({"phase": phase, "fraction": fraction}),
    )
    Path(job["output"]).write_bytes(engine)
    if cache is not None and timings:
        cache.with_suffix(".new").write_bytes(timings)
        cache.with_suffix(".new").replace(cache)
    return {"size_bytes": len(engine)}


def main() -> int:
    """Do one job."""
    # Libraries print to standard output; the answers go where it was.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    library = LIBRARIES[sys.argv[1]]
    job = json.load(sys.stdin)
    try:
        if job["job"] == "build":
            say({"done": build(library, job, say)})
        else:
            say({"done": {"probe": probe, "supports": supports}[job["job"]](library, job)})
    except PartcError as error:
        say({"error": str(error)})
    except OSError as error:
        say({"error": f"a file could not be written: {error.strerror or error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
