"""Segments that a host runs as engines: taken, built, or replaced by their ONNX, and said so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from partc.bundle.engine_store import EngineStore
from partc.bundle.engine_table import source_of
from partc.bundle.engines import Candidate, Decision, bundled, decide
from partc.bundle.reader import Bundle
from partc.errors import BundleError, MissingBackendError, PartcError, TargetError
from partc.ir.engine import EngineEntry, Gpu
from partc.runtime.checking import in_one_line
from partc.runtime.engine_trial import try_apart
from partc.runtime.golden import check_golden
from partc.runtime.onnx_fallback import (
    CPU,
    FALLBACK_BACKEND,
    Expected,
    Refusal,
    expected_provider,
    open_onnx,
    refusals_told,
)
from partc.targets.engines import EngineBackend
from partc.targets.protocol import Runner, RunSettings
from partc.targets.registry import backend_names, load_backend

Progress = Callable[[str, float | None], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineTerms:
    """On which terms a host uses engines.

    Attributes:
        may_build: build what is missing before a segment is first used, which takes minutes.
        allow_code: run machine code inside engines that came with the bundle. Its manifest says
            which do, so without this whoever made the bundle would decide. Engines of the user's
            own store were built here, and may in any case.
        progress: told what a build is at.
    """

    may_build: bool = True
    allow_code: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class EngineUse:
    """What a segment really runs with on this machine.

    Attributes:
        kind: an engine, or the segment's ONNX.
        detail: which engine, or by which provider of onnxruntime.
        reason: why it is no engine, and no other provider; empty when it is an engine.
        refusals: each provider that was passed over.
    """

    segment: str
    kind: Literal["engine", "onnx"]
    detail: str
    reason: str = ""
    refusals: tuple[Refusal, ...] = ()

    @property
    def sentence(self) -> str:
        """For people."""
        if self.kind == "engine":
            return f"segment {self.segment!r} runs as {self.detail}"
        return f"segment {self.segment!r} runs its ONNX by {self.detail}: {self.reason}"


@dataclass(frozen=True)
class Prospect:
    """What would be done for a segment on this machine.

    Attributes:
        fallback: the provider that would run its ONNX, if it came to that.
    """

    segment: str
    entry: EngineEntry
    gpu: Gpu | None
    decision: Decision
    fallback: Expected = field(default=Expected(CPU, ()))

    @property
    def sentence(self) -> str:
        """For people, after "it would"."""
        if self.decision.action == "take":
            return "take the engine that is there"
        if self.decision.action == "build":
            return f"build its engine: {self.decision.reason}"
        by = f"{FALLBACK_BACKEND} ({self.fallback.provider})"
        return f"fall back to ONNX by {by}: {self.decision.reason}"


class EngineSegments:
    """The engines of one host of a bundle, on the machine that this is.

    Args:
        store: engines that were built here; the user's own if None.
    """

    def __init__(
        self,
        bundle: Bundle,
        host: str,
        *,
        store: EngineStore | None = None,
        terms: EngineTerms | None = None,
    ) -> None:
        self._bundle = bundle
        self._host = host
        self._entry = bundle.host(host)
        self._store = store or EngineStore()
        self._terms = terms or EngineTerms()
        self.uses: dict[str, EngineUse] = {}

    def __contains__(self, segment: str) -> bool:
        return segment in self._entry.engines

    def prospects(self) -> Iterator[Prospect]:
        """What would be done for each segment, without doing it."""
        if not self._entry.engines:
            return
        _, gpu, reason = self._machine()
        fallback = expected_provider(load_backend(FALLBACK_BACKEND))
        for segment, entry in self._entry.engines.items():
            yield Prospect(segment, entry, gpu, self._decided(entry, gpu, reason), fallback)

    def open(self, segment: str, settings: RunSettings) -> Runner:
        """The segment, loaded with the best that can be had; what that is, is in ``uses``.

        Raises:
            TargetError: not even its ONNX loads.
        """
        runner, use = self._opened(segment, settings)
        # Versions and the like come from the manifest, and complaints from libraries.
        use = replace(use, detail=in_one_line(use.detail), reason=in_one_line(use.reason))
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
        backend, gpu, why = self._machine()
        failed: dict[Path, str] = {}
        decision = self._decided(entry, gpu, why)
        while backend is not None and decision.action == "take" and decision.engine is not None:
            engine = decision.engine
            try:
                allow_code = self._may_run_code(entry, engine)
                runner = self._tested(backend, segment, entry, engine.path, allow_code=allow_code)
                return runner, _engine_use(segment, engine)
            except (TargetError, BundleError) as error:
                failed[engine.path] = str(error)
                decision = self._decided(entry, gpu, why, failed)
        reason = decision.reason
        if backend is not None and gpu is not None and decision.action == "build":
            _log.warning("segment %r: %s; building its engine", segment, in_one_line(reason))
            start_s = time.monotonic()
            try:
                built = self._built(backend, segment, entry, gpu)
                # It was tried apart before it was kept.
                runner = self._tested(
                    backend, segment, entry, built.path,
                    allow_code=self._may_run_code(entry, built), is_tried=True,
                )  # fmt: skip
            except (TargetError, BundleError) as error:
                reason = f"{reason}, and building one failed: {error}"
            else:
                passed_s = time.monotonic() - start_s
                _log.info("segment %r: its engine was built in %.0f s", segment, passed_s)
                return runner, _engine_use(segment, built)
        return self._fallback(segment, settings, reason, has_gpu=gpu is not None)

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

    def _decided(
        self,
        entry: EngineEntry,
        gpu: Gpu | None,
        reason: str,
        failed: Mapping[Path, str] | None = None,
    ) -> Decision:
        """What is to be done with what there is.

        Args:
            reason: why there is no GPU.
            failed: engines that were tried, and what became of it.
        """
        found = (*bundled(self._bundle, entry), *self._store.find(entry))
        known = failed or {}
        candidates = [
            replace(
                each,
                problem=each.problem or self._distrust(entry, each) or known.get(each.path, ""),
            )
            for each in found
        ]
        no_build = "" if self._terms.may_build else "build it with partc build"
        return decide(entry, gpu, candidates, no_gpu=reason, no_build=no_build)

    def _distrust(self, entry: EngineEntry, engine: Candidate) -> str:
        if not entry.recipe.version_compatible or self._may_run_code(entry, engine):
            return ""
        return (
            "it is version_compatible, so it carries machine code, and it was not built here; "
            "--allow-engine-code of partc serve or partc agent says that the bundle is trusted"
        )

    def _may_run_code(self, entry: EngineEntry, engine: Candidate) -> bool:
        wants = entry.recipe.version_compatible
        return wants and (engine.is_built_here or self._terms.allow_code)

    def _built(
        self, backend: EngineBackend, segment: str, entry: EngineEntry, gpu: Gpu
    ) -> Candidate:
        names = source_of(entry, self._entry.artefacts[segment])
        self._bundle.check(names)
        model = self._bundle.path / names[0]
        cache = self._store.timing_cache(gpu)

        def told(phase: str, fraction: float | None) -> None:
            if self._terms.progress is not None:
                self._terms.progress(f"engine of {segment}: {phase}", fraction)

        def write(path: Path) -> None:
            told("building", None)
            backend.build(model, entry.recipe, gpu, path, timing_cache=cache, progress=told)
            told("trying it", None)
            # An engine that gives other answers is not kept, or it would be tried each time.
            allow_code = entry.recipe.version_compatible
            self._tested(backend, segment, entry, path, allow_code=allow_code).close()

        return self._store.put(entry, gpu, write)

    def _tested(
        self,
        backend: EngineBackend,
        segment: str,
        entry: EngineEntry,
        engine: Path,
        *,
        allow_code: bool,
        is_tried: bool = False,
    ) -> Runner:
        """The engine, loaded, if it gives the golden answers.

        Args:
            is_tried: it did not crash a process of its own a moment ago.
        """
        what = f"the engine of segment {segment!r}"
        try:
            if not is_tried:
                try_apart(backend.name, engine, entry, self._bundle, allow_code=allow_code)
            # Given only where it is meant, as backends of others may not know it.
            code = {"allow_code": True} if allow_code else {}
            runner = backend.engine_runner(engine, entry.recipe, **code)
        except OSError as error:
            raise TargetError(f"{what} cannot be read: {error.strerror or error}") from error
        try:
            check_golden(runner, self._bundle, entry, what)
        except BaseException:
            runner.close()
            raise
        return runner

    def _fallback(
        self, segment: str, settings: RunSettings, reason: str, *, has_gpu: bool
    ) -> tuple[Runner, EngineUse]:
        name = self._bundle.artefact_name(self._host, segment)
        entry = self._entry.engines[segment]

        def check(runner: Runner) -> None:
            check_golden(runner, self._bundle, entry, "it")

        backend = load_backend(FALLBACK_BACKEND)
        opened = open_onnx(backend, self._bundle.path / name, settings, check)
        by = f"{FALLBACK_BACKEND} ({opened.provider})"
        # Where there is a GPU, it is worth saying how to get a provider for it.
        told = refusals_told(opened.refusals, all_of_them=has_gpu)
        use = EngineUse(segment, "onnx", by, "; ".join([reason, *told]), opened.refusals)
        return opened.runner, use


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


def _engine_use(segment: str, engine: Candidate) -> EngineUse:
    key = engine.file.key
    detail = f"{key.flavour} {key.version} engine for compute capability {key.compute_capability}"
    return EngineUse(segment, "engine", detail)
