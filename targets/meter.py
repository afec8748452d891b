"""Measures what a backend does on the hardware of one host: this machine, or a node elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import onnx

from partc.errors import TargetError
from partc.ir.codec_table import CodecFactor
from partc.measure.pinning import pinned
from partc.measure.power_mode import power_mode, split_mode
from partc.measure.sampling import Measurement, measure
from partc.targets.clocks import clock_of, timed
from partc.targets.loading import open_model
from partc.targets.protocol import (
    Array,
    Backend,
    Detection,
    HasProviders,
    Profile,
    RunSettings,
    Sampling,
)

Job = tuple[onnx.ModelProto, Mapping[str, Array]]
"""A model, and what it is run on."""

_WARMUP_TURNS = 2
_FEWEST_TURNS = 6  # fewer samples have no confidence interval of 95 %


class Meter(Protocol):
    """Everything that a compilation has to learn from a host's own hardware."""

    @property
    def backend_name(self) -> str:
        """Of the backend that it measures."""

    @property
    def where(self) -> str:
        """For people: empty for this machine, else what is measured and through whom."""

    def detect(self) -> Detection:
        """Whether the backend works there; the fingerprint is that of the hardware there.

        Raises:
            TargetError: the node cannot be asked.
        """

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
        """Kernel times per op, and times of the whole model."""

    def run_times(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> tuple[float, ...]:
        """Seconds of each run of a segment, as the runtime runs it."""

    def interleaved_times(
        self, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        """As `run_times` of each of several models, a run of each in turn.

        What a machine does in one minute and not in the next then falls on all of them, so that
        their ratios can be trusted where their times cannot.

        Returns:
            for each job its samples, the n-th of all of them from the same turn.
        """


@runtime_checkable
class KnowsCodecs(Protocol):
    """A meter of a node that tells how fast it encodes and decodes."""

    def codec_factors(self, codecs: Sequence[str]) -> Mapping[str, CodecFactor]:
        """Codec -> how many times longer it takes there than here; those that both know.

        Raises:
            TargetError: the node cannot be asked.
        """


def place_of(meter: Meter) -> tuple[str, str]:
    """Fingerprint of hardware and backend, and the power mode that the machine is in now.

    Raises:
        TargetError: the node cannot be asked.
    """
    fingerprint, mode = split_mode(meter.detect().fingerprint)
    if not mode and isinstance(meter, LocalMeter):
        mode = power_mode()
    return fingerprint, mode


def detection_of(backend: Backend, provider: str = "") -> Detection:
    """Whether a backend, with one of its execution providers, works on this machine.

    Raises:
        TargetError: the backend has no such provider, or none to choose from.
    """
    if not provider:
        return backend.detect()
    if not isinstance(backend, HasProviders):
        raise TargetError(
            f"backend {backend.name!r} has no execution providers to choose from; "
            "remove provider from the target file"
        )
    return backend.detect_provider(provider)


@dataclass(frozen=True)
class LocalMeter:
    """Measures on this machine.

    Attributes:
        provider: which of the backend's execution providers; empty for its own choice.
    """

    backend: Backend
    provider: str = ""

    @property
    def backend_name(self) -> str:
        """Of the backend that it measures."""
        return self.backend.name

    @property
    def where(self) -> str:
        """Here."""
        return ""

    def detect(self) -> Detection:
        """Whether the backend works here."""
        return detection_of(self.backend, self.provider)

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Node name -> why the backend cannot run it."""
        return self.backend.unsupported(model)

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Groups of two or more nodes that the backend runs as one kernel, by node name."""
        return self.backend.fused_groups(model, settings)

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Kernel times per op, and times of the whole model."""
        return self.backend.profile(model, feeds, settings, sampling)

    def run_times(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> tuple[float, ...]:
        """Seconds of each run of a segment, as the runtime runs it."""
        return self.measure_runs(model, feeds, settings, sampling).samples_s

    def interleaved_times(
        self, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        """As `run_times` of each of several models, a run of each in turn."""
        pinning = pinned(settings.threads) if sampling.pinned else nullcontext()
        turns: list[tuple[float, ...]] = []
        with ExitStack() as stack:
            stack.enter_context(pinning)
            runners = [
                stack.enter_context(open_model(model, self.backend, settings)) for model, _ in jobs
            ]

            def turn() -> tuple[float, ...]:
                seconds: list[float] = []
                for runner, (_, feeds) in zip(runners, jobs, strict=True):
                    time.sleep(sampling.pause_s)
                    work = partial(runner.run, feeds)
                    seconds.append(timed(work, clock_of(runner), settings.threads)[1])
                return tuple(seconds)

            for _ in range(_WARMUP_TURNS):
                turn()
            began_s = time.perf_counter()
            while len(turns) < max(sampling.repeats, _FEWEST_TURNS):
                if (
                    len(turns) >= _FEWEST_TURNS
                    and time.perf_counter() - began_s > sampling.budget_s
                ):
                    break
                turns.append(turn())
        return [tuple(row) for row in zip(*turns, strict=True)]

    def measure_runs(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Measurement:
        """As `run_times`, and whether they settled and what went on on the machine."""
        pinning = pinned(settings.threads) if sampling.pinned else nullcontext()
        with pinning, open_model(model, self.backend, settings) as runner:
            clock = clock_of(runner)

            def run() -> float:
                return timed(lambda: runner.run(feeds), clock, settings.threads)[1]

            return measure(run, sampling.rule, sampling.pause_s)
