"""Measures what a backend does on the hardware of one host: this machine, or a node elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import onnx

from partc.errors import TargetError
from partc.measure.pinning import pinned
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
        return self.measure_runs(model, feeds, settings, sampling).samples_s

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
