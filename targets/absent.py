"""Stands for a node whose agent cannot be reached: what it was when it was last seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx

from partc.errors import TargetError
from partc.ir.cost import Cost
from partc.targets.meter import Job
from partc.targets.protocol import Array, Detection, Profile, RunSettings, Sampling
from partc.targets.reference import REFERENCE_BACKEND
from partc.targets.registry import backend_names, load_backend


class Memory(Protocol):
    """What a node answered when it could be asked; None where it was not asked that."""

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str] | None:
        """Node name -> why the backend there cannot run it."""

    def fused_groups(
        self, model: onnx.ModelProto, settings: RunSettings
    ) -> list[tuple[str, ...]] | None:
        """Groups of nodes that the backend there runs as one kernel."""


@dataclass(frozen=True)
class AbsentMeter:
    """A meter that measures nothing: the costs of its node are those that the store has.

    Attributes:
        backend_name: of the backend that would measure.
        where: as a meter says it that reaches the node.
        reason: why it does not, as the beginning of a sentence.
        fingerprint: of the node when it was last seen.
    """

    backend_name: str
    where: str
    reason: str
    fingerprint: str
    memory: Memory

    def detect(self) -> Detection:
        """Not available, and why; the fingerprint is the last that was seen."""
        return Detection(False, self.reason, "", self.fingerprint)

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """As the node said, or as the same backend says here."""
        known = self.memory.unsupported(model)
        if known is not None:
            return known
        if self.backend_name in backend_names():
            try:
                return load_backend(self.backend_name).unsupported(model)
            except TargetError:  # it needs its libraries or its hardware even to say
                pass
        return {}

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """As the node said; else as the same backend fuses here, or ONNX Runtime on the CPU."""
        known = self.memory.fused_groups(model, settings)
        if known is not None:
            return known
        if self.backend_name in backend_names():
            try:
                return load_backend(self.backend_name).fused_groups(model, settings)
            except TargetError:
                pass
        return load_backend(REFERENCE_BACKEND).fused_groups(model, RunSettings())

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Raises TargetError."""
        raise self.lacks()

    def run_times(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> tuple[float, ...]:
        """Raises TargetError."""
        raise self.lacks()

    def interleaved_times(
        self, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        """Raises TargetError."""
        raise self.lacks()

    def lacks(self, what: str = "") -> TargetError:
        """One sentence for when something would have to be measured there.

        Args:
            what: that is stored instead, as a further part of the sentence.
        """
        more = f" ({what})" if what else ""
        return TargetError(
            f"{self.reason}, and the store has not all costs that are needed of its node{more}; "
            "start it there with partc agent --listen ADDRESS, and run the command again"
        )

    def instead(self, costs: Iterable[Cost]) -> str:
        """One sentence on the stored costs that are used."""
        days = sorted({cost.measured_at[:10] for cost in costs if cost.measured_at})
        when = ""
        if days:
            when = f" on {days[0]}" if len(days) == 1 else f" from {days[0]} to {days[-1]}"
        return f"{self.reason}; costs that were measured there{when} are used"
