"""Segments that a host runs as engines: taken, built, or replaced by their ONNX, and said so."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from partc.bundle.engine_store import EngineStore
from partc.bundle.engine_table import source_of
from partc.bundle.engines import Candidate, Decision, bundled, decide
from partc.bundle.reader import Bundle
from partc.errors import BundleError, MissingBackendError, PartcError, TargetError
from partc.ir.engine import EngineEntry, Gpu
from partc.targets.engines import EngineBackend
from partc.targets.protocol import Runner, RunSettings
from partc.targets.registry import backend_names, load_backend

Progress = Callable[[str, float | None], None]

FALLBACK_BACKEND = "onnxruntime"
FALLBACK_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "")
"""Tried in this order; the empty one is the CPU."""

# Largest difference from the golden pair, of the largest magnitude; GPU and CPU add up in another
# order, and round to few digits in other places.
_TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1, "int8": 1e-1}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineUse:
    """What a segment really runs with on this machine.

    Attributes:
        kind: an engine, or the segment's ONNX.
        detail: which engine, or by which provider of onnxruntime.
        reason: why it is no engine; empty when it is one.
    """

    segment: str
    kind: Literal["engine", "onnx"]
    detail: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        if self.kind == "engine":
            return f"segment {self.segment!r} runs as {self.detail}"
        return f"segment {self.segment!r} runs its ONNX by {self.detail}: {self.reason}"


@dataclass(frozen=True)
class Prospect:
    """What would be done for a segment on this machine."""

    segment: str
    entry: EngineEntry
    gpu: Gpu | None
    decision: Decision

    @property
    def sentence(self) -> str:
        """For people, after "it would"."""
        if self.decision.action == "take":
            return "take the engine that is there"
        if self.decision.action == "build":
            return f"build its engine: {self.decision.reason}"
        return f"fall back to ONNX: {self.decision.reason}"


class EngineSegments:
    """The engines of one host of a bundle, on the machine that this is.

    Args:
        store: engines that were built here; the user's own if None.
        may_build: build what is missing before a segment is first used, which takes minutes.
    """

    def __init__(
        self,
        bundle: Bundle,
        host: str,
        *,
        store: EngineStore | None = None,
        may_build: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self._bundle = bundle
        self._host = host
        self._entry = bundle.host(host)
        self._store = store or EngineStore()
        self._may_build = may_build
        self._progress = progress
        self.uses: dict[str, EngineUse] = {}

    def __contains__(self, segment: str) -> bool:
        return segment in self._entry.engines

    def prospects(self) -> Iterator[Prospect]:
        """What would be done for each segment, without doing it."""
        for segment, entry in self._entry.engines.items():
            _, gpu, reason = self._machine()
            yield Prospect(segment, entry, gpu, self._decided(entry, gpu, reason))

    def open(self, segment: str, settings: RunSettings) -> Runner:
        """The segment, loaded with the best that can be had; what that is, is in ``uses``.

        Raises:
            TargetError: not even its ONNX loads.
        """
        runner, use = self._opened(segment, settings)
        self.uses[segment] = use
        _log.log(logging.INFO if use.kind == "engine" else logging.WARNING, "%s", use.sentence)
        return runner

    def build(self, segment: str, *, anew: bool = False) -> Candidate:
        """Build a segment's engine for the GPU that is here, test it and keep it.

        Args:
            anew: even if there is one that fits.

        Raises:
            MissingBackendError: no engine can be built here.
            TargetError: the build failed, or gives other answers.
            BundleError: the engine cannot be kept, or the segment's file was changed.
        """
        backend, gpu, reason = self._machine()
        if backend is None or gpu is None:
            raise MissingBackendError(
                f"no engine of host {self._host!r} can be built here: {reason}", host=self._host
            )
        entry = self._entry.engines[segment]
        decision = self._decided(entry, gpu, reason)
        if decision.action == "take" and decision.engine is not None and not anew:
            return decision.engine
        return self._built(backend, segment, entry, gpu)

    def _opened(self, segment: str, settings: RunSettings) -> tuple[Runner, EngineUse]:
        entry = self._entry.engines[segment]
        backend, gpu, reason = self._machine()
        decision = self._decided(entry, gpu, reason)
        if backend is not None and decision.action == "take" and decision.engine is not None:
            try:
                runner = self._tested(backend, segment, entry, decision.engine.path)
                return runner, _engine_use(segment, decision.engine)
            except (TargetError, BundleError) as error:
                action: Literal["build", "fall_back"] = "build" if self._may_build else "fall_back"
                decision = replace(decision, action=action, reason=str(error))
        if backend is not None and gpu is not None and decision.action == "build":
            _log.warning("segment %r: %s; building its engine", segment, decision.reason)
            try:
                built = self._built(backend, segment, entry, gpu)
                runner = self._tested(backend, segment, entry, built.path)
                return runner, _engine_use(segment, built)
            except (TargetError, BundleError) as error:
                decision = replace(decision, action="fall_back", reason=str(error))
        return self._fallback(segment, settings, decision.reason)

    def _machine(self) -> tuple[EngineBackend | None, Gpu | None, str]:
        name = self._entry.backend
        if name not in backend_names():
            return None, None, f"no backend named {name!r} is installed"
        try:
            found = load_backend(name)
        except TargetError as error:
            return None, None, str(error)
        if not isinstance(found, EngineBackend):
            return None, None, f"backend {name!r} runs no engines"
        gpu = found.gpu()
        return found, gpu, "" if gpu is not None else found.detect().reason

    def _decided(self, entry: EngineEntry, gpu: Gpu | None, reason: str) -> Decision:
        candidates = [*bundled(self._bundle, entry), *self._store.find(entry)]
        no_build = "" if self._may_build else "build it with partc build"
        return decide(entry, gpu, candidates, no_gpu=reason, no_build=no_build)

    def _built(
        self, backend: EngineBackend, segment: str, entry: EngineEntry, gpu: Gpu
    ) -> Candidate:
        names = source_of(entry, self._entry.artefacts[segment])
        self._bundle.check(names)
        model = self._bundle.path / names[0]
        cache = self._store.timing_cache(gpu)

        def write(path: Path) -> None:
            backend.build(
                model, entry.recipe, gpu, path, timing_cache=cache, progress=self._progress
            )
            # An engine that gives other answers is not kept, or it would be tried each time.
            self._tested(backend, segment, entry, path).close()

        return self._store.put(entry, gpu, write)

    def _tested(
        self, backend: EngineBackend, segment: str, entry: EngineEntry, engine: Path
    ) -> Runner:
        """The engine, loaded, if it gives the golden answers."""
        runner = backend.engine_runner(engine, entry.recipe)
        try:
            if entry.golden:
                feeds, expected = (self._bundle.arrays(name) for name in entry.golden)
                actual = runner.run(feeds)
                for name, reference in expected.items():
                    why = difference(actual[name], reference, entry.precision)
                    if why:
                        raise TargetError(
                            f"the engine of segment {segment!r} gives another {name!r} than the "
                            f"model: {why}"
                        )
        except BaseException:
            runner.close()
            raise
        return runner

    def _fallback(
        self, segment: str, settings: RunSettings, reason: str
    ) -> tuple[Runner, EngineUse]:
        name = self._bundle.artefact_name(self._host, segment)
        backend = load_backend(FALLBACK_BACKEND)
        for provider in FALLBACK_PROVIDERS:
            try:
                chosen = replace(settings, provider=provider, provider_options=())
                runner = backend.runner(self._bundle.path / name, chosen)
            except MissingBackendError:
                continue
            by = f"{FALLBACK_BACKEND} ({provider or 'CPUExecutionProvider'})"
            return runner, EngineUse(segment, "onnx", by, reason)
        raise TargetError(f"no provider of {FALLBACK_BACKEND} runs segment {segment!r}")


def build_all(
    segments: EngineSegments,
    names: list[str],
    *,
    anew: bool,
    said: Callable[[str, Candidate | PartcError], None],
) -> bool:
    """Build engines one after the other; whether all were built.

    Args:
        said: called with each segment and its engine, or what went wrong.
    """
    whole = True
    for name in names:
        try:
            said(name, segments.build(name, anew=anew))
        except MissingBackendError:
            raise
        except (TargetError, BundleError) as error:
            whole = False
            said(name, error)
    return whole


def difference(actual: Any, expected: Any, precision: str) -> str:
    """Why an engine's answer is not the expected one; empty if it is close enough."""
    one, other = np.asarray(actual), np.asarray(expected)
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"it is {one.dtype} {one.shape} and should be {other.dtype} {other.shape}"
    if not other.size:
        return ""
    tolerance = _TOLERANCES[precision]
    if other.dtype.kind not in "fc" and other.dtype.name != "bfloat16":
        share = float(np.mean(one != other))
        return "" if share <= tolerance else f"{share:.1%} of its elements differ"
    one, other = one.astype(np.complex128), other.astype(np.complex128)
    finite = np.isfinite(other)
    if not np.isfinite(one[finite]).all():
        return "it is not finite where it should be"
    if not finite.any():
        return ""
    largest = float(np.abs(one[finite] - other[finite]).max())
    magnitude = float(np.abs(other[finite]).max())
    relative = largest / magnitude if magnitude else largest
    if math.isnan(relative) or relative > tolerance:
        return f"largest error {largest:.3g} ({relative:.3g} of its magnitude)"
    return ""


def _engine_use(segment: str, engine: Candidate) -> EngineUse:
    key = engine.file.key
    detail = f"{key.flavour} {key.version} engine for compute capability {key.compute_capability}"
    return EngineUse(segment, "engine", detail)
