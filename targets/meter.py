"""Measures what a backend does on the hardware of one host: this machine, or a node elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import onnx

from partc.errors import TargetError
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

_WARMUP_RUNS = 3
_FEWEST_RUNS = 3


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
        samples_s: list[float] = []
        with open_model(model, self.backend, settings) as runner:
            for _ in range(_WARMUP_RUNS):
                runner.run(feeds)
            begun = time.perf_counter()
            for run in range(max(sampling.repeats, _FEWEST_RUNS)):
                if run >= _FEWEST_RUNS and time.perf_counter() - begun > sampling.budget_s:
                    break
                time.sleep(sampling.pause_s)
                _, busy_s = timed(lambda: runner.run(feeds), clock_of(runner), settings.threads)
                samples_s.append(busy_s)
        return tuple(samples_s)
