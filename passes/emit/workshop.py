"""Where the engines of a topology's hosts are built, and what was built there so far."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from partc.errors import TargetError
from partc.ir.engine import EngineKey, EngineRecipe, Flavour, Gpu
from partc.ir.topology import Topology
from partc.targets.engines import (
    EngineBuilder,
    EngineSource,
    LocalBuilder,
    Progress,
    engine_backend,
)
from partc.targets.registry import load_target


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built for a bundle.

    Attributes:
        built_by: as `partc.ir.engine.EngineFile`.
    """

    path: Path
    build_s: float
    built_by: str


@dataclass(frozen=True)
class Bench:
    """What builds the engines of one host.

    Attributes:
        gpus: that it builds for; none where engines are left to the host.
        reason: why there are none, or not more.
    """

    builder: EngineBuilder
    gpus: tuple[Gpu, ...]
    reason: str

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""
        return self.builder.flavour


class Workshop:
    """Builds engines for the time of one compilation; a context manager.

    An engine that was built is kept until then: when the placement is solved again, since another
    segment could not be built, those that stay as they were are not built twice.

    Args:
        elsewhere: host -> what builds on its own node, which goes before this machine.
    """

    def __init__(
        self, topology: Topology, elsewhere: Mapping[str, EngineBuilder] | None = None
    ) -> None:
        self._topology = topology
        self._elsewhere = dict(elsewhere or {})
        self._benches: dict[str, Bench | None] = {}
        self._built: dict[EngineKey, BuiltEngine] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="partc-engines-"))

    def bench(self, host: str) -> Bench | None:
        """What builds for a host; None where its target runs no engines."""
        if host not in self._benches:
            self._benches[host] = self._found(host)
        return self._benches[host]

    def build(
        self,
        host: str,
        source: EngineSource,
        recipe: EngineRecipe,
        key: EngineKey,
        gpu: Gpu,
        progress: Progress | None = None,
    ) -> BuiltEngine:
        """The engine of a segment, which lies in a file of this workshop.

        Raises:
            UnbuildableError: the builder refuses the segment.
            TargetError: it could not be built for another reason.
        """
        if key not in self._built:
            bench = self.bench(host)
            assert bench is not None
            started_s = time.perf_counter()
            path = self._folder / f"{key.digest}.{len(self._built)}"
            bench.builder.build(source, recipe, gpu, path, progress=progress)
            build_s = time.perf_counter() - started_s
            self._built[key] = BuiltEngine(path, build_s, bench.builder.where)
        return self._built[key]

    def _found(self, host: str) -> Bench | None:
        described = self._topology.hosts[host]
        here = engine_backend(load_target(described.target).backend)
        if here is None:
            return None
        wanted = described.engine.compute_capabilities
        why = ""
        if host in self._elsewhere:
            there = self._elsewhere[host]
            try:
                gpus, why = there.builders(wanted)
            except TargetError as error:
                gpus, why = (), str(error)
            if gpus:
                return Bench(there, gpus, why)
        local = LocalBuilder(here)
        gpus, reason = local.builders(wanted)
        return Bench(local, gpus, "; ".join(each for each in (why, reason) if each))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
