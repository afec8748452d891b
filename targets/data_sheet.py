"""Stands for hardware that is not here and cannot be asked: knows what its data sheet says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from partc.errors import MissingBackendError, TargetError
from partc.targets.meter import Job
from partc.targets.protocol import Array, Detection, Profile, RunSettings, Sampling
from partc.targets.reference import REFERENCE_BACKEND
from partc.targets.registry import Target, backend_names, load_backend

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class DataSheetMeter:
    """A meter that measures nothing: costs of its target are estimated or come from elsewhere.

    Attributes:
        reason: why the target cannot be measured on this machine.
    """

    target: Target
    reason: str

    @property
    def backend_name(self) -> str:
        """Of the backend that would measure."""
        return self.target.backend

    @property
    def where(self) -> str:
        """The target's own name: what is known holds for it alone."""
        return f"the {self._figures} of {self.target.name}"

    def detect(self) -> Detection:
        """Not available, and why; the fingerprint names the data sheet."""
        return Detection(False, self.reason, "", f"{self._figures}/{self.target.name}")

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Ops that the data sheet does not list or, where it lists none, that the backend refuses
        as far as it can tell without its hardware."""
        listed = set(self.target.hardware.ops)
        if listed:
            return {
                node.name: f"{self._listed} no op {node.op_type!r}"
                for node in model.graph.node
                if node.domain not in _STANDARD or node.op_type not in listed
            }
        if self.target.backend in backend_names():
            try:
                return load_backend(self.target.backend).unsupported(model)
            except TargetError:  # it needs its libraries or its hardware even to say
                pass
        return {}

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Those of ONNX Runtime on the CPU: what every backend fuses (a convolution with its
        activation, a residual addition) is in them."""
        return load_backend(REFERENCE_BACKEND).fused_groups(model, RunSettings())

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Raises MissingBackendError."""
        raise self._not_here()

    def run_times(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> tuple[float, ...]:
        """Raises MissingBackendError."""
        raise self._not_here()

    def interleaved_times(
        self, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        """Raises MissingBackendError."""
        raise self._not_here()

    @property
    def _figures(self) -> str:
        return self.target.hardware.figures

    @property
    def _listed(self) -> str:
        verb = "list" if self.target.hardware.typical else "lists"
        return f"the {self._figures} of {self.target.name} {verb}"

    def _not_here(self) -> MissingBackendError:
        return MissingBackendError(
            f"target {self.target.name!r} cannot be measured here: {self.reason}; measure it on "
            "its own host through partc agent, import costs, or let them be estimated"
        )
