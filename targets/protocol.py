"""What a backend offers: detect, supports, profile, run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
import onnx

from partc.ir.engine import BuildOptions, Precision
from partc.measure.conditions import Conditions
from partc.measure.keys import ENGINE_PREFIX, PRECISION_PREFIX
from partc.measure.statistics import PRECISION
from partc.measure.stopping import StoppingRule

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

_BUILT_BY_DEFAULT = BuildOptions()


@dataclass(frozen=True)
class Detection:
    """Whether a backend can work on this machine.

    Attributes:
        reason: one sentence on what is missing and what to install; empty when available.
        fingerprint: hardware and backend, with versions: costs are valid for it alone.
    """

    available: bool
    reason: str
    version: str
    fingerprint: str


@dataclass(frozen=True)
class RunSettings:
    """How a segment is executed. Costs are valid for the settings they were taken with.

    Attributes:
        threads: of one segment's execution.
        optimization: the backend's own name of its level.
        provider: of the backends that have several, the one that executes; empty for the
            backend's own choice.
        provider_options: of the provider, sorted by name.
        precision: that is written into the segment's ONNX; backends run a segment as it is, so it
            only tells what was measured.
        engine: how the segment's engine is built, for backends that build any.
    """

    threads: int = 1
    optimization: str = "all"
    provider: str = ""
    provider_options: tuple[tuple[str, str], ...] = ()
    precision: Precision = "fp32"
    engine: BuildOptions = _BUILT_BY_DEFAULT

    @property
    def key(self) -> str:
        """The settings as one line of text, as the keys of stored costs hold it.

        float32 is not written, nor how engines are built by default, so that costs from before
        anything else was measured count.
        """
        parts = [str(self.threads), self.optimization]
        if self.provider:
            options = [f"{name}={value}" for name, value in self.provider_options]
            parts.append(",".join([self.provider, *options]))
        if changed := self.engine.changed:
            parts.append(f"{ENGINE_PREFIX}{changed}")
        if self.precision != "fp32":
            parts.append(f"{PRECISION_PREFIX}{self.precision}")
        return "|".join(parts)


@dataclass(frozen=True)
class Sampling:
    """How often and how densely to measure.

    Attributes:
        repeats: runs of the model after which to stop in any case.
        budget_s: seconds after which fewer runs will do, but at least 3.
        pause_s: idle time before each run. A request that comes now and then finds caches cold and
            clocks low, and takes up to half as long again as one in a dense loop: single requests
            are measured with a pause, pipelines without.
        precision: half-width of the median's 95 % confidence interval, relative to it, at which it
            is known well enough.
        pinned: bind the measuring threads to processors; see `partc.measure.pinning`.
    """

    repeats: int = 100
    budget_s: float = 8.0
    pause_s: float = 0.05
    precision: float = PRECISION
    pinned: bool = True

    @property
    def rule(self) -> StoppingRule:
        """When to stop."""
        return StoppingRule(self.precision, self.repeats, self.budget_s)


@dataclass(frozen=True)
class Profile:
    """A measurement of a whole model.

    Attributes:
        op_s: op -> samples of the time of the kernel that runs it, seconds, one per run; of the
            ops in one kernel only one is named.
        whole_s: samples of one run of the model without profiling, seconds.
        settled: whether the median of ``whole_s`` is as precise as was asked for; None where the
            backend does not say.
        conditions: what went on on the machine meanwhile.
    """

    op_s: Mapping[str, tuple[float, ...]]
    whole_s: tuple[float, ...]
    settled: bool | None = None
    conditions: Conditions = field(default_factory=Conditions)


class Runner(Protocol):
    """An executable segment; a context manager."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Tensors it needs."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Tensors it gives."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Execute once.

        Raises:
            TargetError: the backend refused the tensors, or failed.
        """

    def close(self) -> None:
        """Free what the backend holds."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Backend(Protocol):
    """One way of executing ONNX graphs on a kind of hardware."""

    @property
    def name(self) -> str:
        """As in ``partc targets``."""

    def detect(self) -> Detection:
        """Whether it can work here."""

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Node name -> why the backend cannot run it."""

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Groups of two or more nodes that the backend runs as one kernel, by node name."""

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Measure on this machine."""

    def runner(self, model: bytes | Path, settings: RunSettings) -> Runner:
        """Load a segment, from a file or from the serialised model."""


@runtime_checkable
class HasProviders(Protocol):
    """A backend with several execution providers, of which a target names one."""

    def detect_provider(self, provider: str) -> Detection:
        """Whether that provider can work here.

        Raises:
            TargetError: the backend knows no provider of that name.
        """
