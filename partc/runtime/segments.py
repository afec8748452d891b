"""The segments that a host has loaded, its own and those it can fall back to."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

import numpy as np

from partc.bundle.manifest import HostEntry, SegmentEntry, TensorSpec
from partc.bundle.reader import Bundle
from partc.errors import BundleError, TargetError
from partc.runtime.engine_segments import EngineSegments, EngineTerms
from partc.runtime.onnx_fallback import FALLBACK_BACKEND
from partc.runtime.pacing import run_slowed
from partc.runtime.transport import CallFailedError, FailureKind
from partc.targets.clocks import clock_of
from partc.targets.engines import EngineBackend
from partc.targets.protocol import Backend, Runner
from partc.targets.registry import load_backend
from partc.targets.settings import settings_of

Array = np.ndarray[Any, np.dtype[Any]]
Fallback = Literal["preload", "lazy", "none"]


class SegmentPool:
    """Runs segments as ``host`` would: one at a time, at its speed.

    Args:
        fallback: whether the segments of other hosts are loaded at once, when first needed, or
            never.
        verify_files: check each file against the manifest before it is loaded.
        engines: on which terms engines are used.

    Raises:
        BundleError: the bundle has no such file, or the file is not what the manifest says.
        TargetError: a segment cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        host: str,
        *,
        fallback: Fallback,
        verify_files: bool = True,
        engines: EngineTerms | None = None,
    ) -> None:
        self._bundle = bundle
        self._host = host
        self._entry = bundle.host(host)
        self._verify_files = verify_files
        self._settings = settings_of(self._entry)
        self.engines = EngineSegments(bundle, host, terms=engines)
        self._backend = _backend_of(self._entry)
        self._runners: dict[str, Runner] = {}
        self._loading = threading.Lock()
        self._machine = threading.Lock()
        self._fallback = {} if fallback == "none" else self._entry.fallback
        wanted = [*self._entry.artefacts]
        if fallback == "preload":
            wanted += self._entry.fallback
        try:
            for segment in wanted:
                self._warm_up(bundle.manifest.segment(segment))
        except BaseException:
            self.close()
            raise

    def can_run(self, segment_id: str) -> bool:
        """Whether this host has the file of a segment."""
        return segment_id in self._entry.artefacts or segment_id in self._fallback

    def run(
        self, segment: SegmentEntry, feeds: Mapping[str, Array], end_s: float = math.inf
    ) -> tuple[dict[str, Array], float]:
        """Execute a segment; its outputs and the seconds it took.

        Args:
            end_s: do not begin after this, by `time.perf_counter`: nobody waits any longer.

        Raises:
            CallFailedError: other requests kept the machine busy for too long.
            TargetError: the backend failed.
            BundleError: the segment's file is missing or was changed.
        """
        runner = self._runner(segment.id)
        needed = {name: feeds[name] for name in segment.inputs}
        with self._machine_before(end_s):
            return run_slowed(
                lambda: runner.run(needed),
                self._entry.slowdown,
                self._entry.threads,
                clock_of(runner),
            )

    def close(self) -> None:
        """Free all segments."""
        while self._runners:
            self._runners.popitem()[1].close()

    @contextmanager
    def _machine_before(self, end_s: float) -> Iterator[None]:
        left_s = end_s - time.perf_counter()
        timeout_s = -1.0 if math.isinf(end_s) else min(max(0.0, left_s), threading.TIMEOUT_MAX)
        if left_s <= 0 or not self._machine.acquire(timeout=timeout_s):
            raise CallFailedError(
                FailureKind.DEADLINE, f"host {self._host!r} was busy until the caller gave up"
            )
        try:
            yield
        finally:
            self._machine.release()

    def _runner(self, segment_id: str) -> Runner:
        runner = self._runners.get(segment_id)
        if runner is not None:
            return runner
        with self._loading:
            if segment_id not in self._runners:
                self._runners[segment_id] = self._load(segment_id)
            return self._runners[segment_id]

    def _load(self, segment_id: str) -> Runner:
        if not self.can_run(segment_id):
            raise BundleError(f"host {self._host!r} has no file for segment {segment_id!r}")
        name = self._bundle.artefact_name(self._host, segment_id)
        if self._verify_files:
            self._bundle.check_artefacts([name])
        try:
            if segment_id in self.engines:
                return self.engines.open(segment_id, self._settings)
            return self._backend.runner(self._bundle.path / name, self._settings)
        except TargetError as error:
            raise TargetError(
                f"host {self._host!r} cannot load segment {segment_id!r}: {error}",
                host=self._host,
            ) from error

    def _warm_up(self, segment: SegmentEntry) -> None:
        runner = self._runner(segment.id)
        specs = [self._bundle.manifest.tensors[name] for name in segment.inputs]
        # Zeros are a legal input of almost every segment; one that refuses them starts cold.
        with suppress(TargetError):
            runner.run({spec.name: _zeros(spec) for spec in specs})


def _backend_of(entry: HostEntry) -> Backend:
    """What runs segments as they are: on a host with engines, those that it has none for."""
    if entry.engines or isinstance(load_backend(entry.backend), EngineBackend):
        return load_backend(FALLBACK_BACKEND)
    return load_backend(entry.backend)


def _zeros(spec: TensorSpec) -> Array:
    shape = spec.planned_shape or [dim if isinstance(dim, int) else 1 for dim in spec.shape or []]
    if spec.dtype == "string":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=numpy_dtype(spec.dtype))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of a manifest's type name; bfloat16 and its like come from ml_dtypes."""
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extended
