"""A target with engines: the ONNX behind a line of text, made by a builder that refuses some ops.

``PARTC_TOY_REFUSES`` names op types that the builder refuses, although the backend says that it
supports them; ``PARTC_TOY_REFUSES_BESIDE`` some that it refuses beside another op and does alone.
``PARTC_TOY_KILLED`` ends builds for a reason that is not the segment's.
``PARTC_TOY_BUILD_S`` makes a build take that long, in a process whose id is then in
``PARTC_TOY_PID``.
``PARTC_TOY_CRASHES`` ends the process that loads an engine, as libraries do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe, Flavour, Gpu
from partc.targets.engines import Progress

# A package of its own once it is installed; here the types are checked as part of the tests.
from .target import ToyBackend, ToyRunner  # noqa: TID252

_MAGIC = b"toy engine\n"
_GPU = Gpu(flavour="tensorrt_rtx", version="1.0.toy", compute_capability="8.9", platform="toy")


class ToyEngines(ToyBackend):
    """Builds on any machine."""

    name = "toy-engines"
    flavour: Flavour = "tensorrt_rtx"
    capabilities: tuple[str, ...] = ("8.9",)

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """The parser says yes to everything."""
        return {}

    def gpu(self) -> Gpu | None:
        """Always there."""
        return _GPU

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """Always there."""
        return (_GPU,), ""

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
        """Refuse, take time, or write the engine."""
        if "PARTC_TOY_KILLED" in os.environ:
            raise TargetError("the toy's builder was killed")
        nodes = onnx.load(model).graph.node
        for node in nodes:
            if node.op_type in os.environ.get("PARTC_TOY_REFUSES", "").split(","):
                named = f" for {node.name}" if "PARTC_TOY_NAMES" in os.environ else ""
                raise UnbuildableError(f"the toy's builder has no tactic{named}")
            beside = os.environ.get("PARTC_TOY_REFUSES_BESIDE", "").split(",")
            if len(nodes) > 1 and node.op_type in beside:
                raise UnbuildableError(f"the toy's builder has no room for {node.name}")
        _take_time(progress)
        output.write_bytes(_MAGIC + model.read_bytes())

    def engine_runner(
        self, engine: Path, recipe: EngineRecipe, *, allow_code: bool = False
    ) -> ToyRunner:
        """Load an engine; one for several versions carries code."""
        if "PARTC_TOY_CRASHES" in os.environ:
            os.abort()
        if recipe.version_compatible and not allow_code:
            raise TargetError("the toy's engine carries code")
        data = engine.read_bytes()
        if not data.startswith(_MAGIC):
            raise TargetError("this is no toy engine")
        return ToyRunner(data.removeprefix(_MAGIC))


def _take_time(progress: Progress | None) -> None:
    seconds = float(os.environ.get("PARTC_TOY_BUILD_S", "0"))
    if not seconds:
        return
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    if "PARTC_TOY_PID" in os.environ:
        Path(os.environ["PARTC_TOY_PID"]).write_text(str(process.pid), encoding="utf-8")
    try:
        while process.poll() is None:
            if progress is not None:
                progress("trying tactics", 0.5)
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


BACKEND: Any = ToyEngines()
