"""What a profile says, whichever tool wrote it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from partc.errors import UsageError

Kind = Literal["onnxruntime", "trtexec", "trtexec-layers", "openvino"]

TITLES: Mapping[Kind, str] = {
    "onnxruntime": "ONNX Runtime profile",
    "trtexec": "profile of trtexec",
    "trtexec-layers": "layer information of trtexec",
    "openvino": "performance counters of OpenVINO",
}
MOST_KERNELS = 20_000
_LONGEST_S = 1e6
_LONGEST_NAME = 20_000


@dataclass(frozen=True)
class Kernel:
    """What a backend ran as one thing.

    Attributes:
        name: as the tool has it.
        samples_s: seconds, one a run, or the median of all runs alone.
        spread_s: how far runs were from the median where ``samples_s`` is that alone, seconds.
        type: of the op or layer, as the tool names it.
        metadata: what else names its ops, as TensorRT's inspector has it.
    """

    name: str
    samples_s: tuple[float, ...]
    spread_s: float = 0.0
    type: str = ""
    metadata: str = ""

    @property
    def median_s(self) -> float:
        """Of one run, seconds."""
        return float(np.median(self.samples_s)) if self.samples_s else 0.0


@dataclass(frozen=True)
class ImportedCosts:
    """One profile.

    Attributes:
        origin: the file.
        kernels: in the order in which they ran.
        runs: how many runs are behind each time.
        whole_s: seconds of the whole model, one a run; empty where the tool does not say.
        runtime: what executed, as far as the file says: an execution provider, a device.
        threads: with how many; None where the file does not say.
        notices: sentences for the user.
    """

    kind: Kind
    origin: str
    kernels: tuple[Kernel, ...]
    runs: int
    whole_s: tuple[float, ...] = ()
    runtime: str = ""
    threads: int | None = None
    notices: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        """For people: kind and file."""
        return f"{TITLES[self.kind]} {self.origin}"

    @property
    def kernels_s(self) -> float:
        """All kernels together, seconds of a run."""
        return sum(kernel.median_s for kernel in self.kernels)


def checked_seconds(value: object, unit_s: float, where: str) -> float:
    """A time in a file, in seconds.

    Raises:
        UsageError: it is not a number, or no time that a kernel takes.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f"{where} is {_shown(value)}, and not a time")
    try:
        seconds = float(value) * unit_s
    except (ValueError, OverflowError):
        raise UsageError(f"{where} is {_shown(value)}, and not a time") from None
    if not (math.isfinite(seconds) and 0 <= seconds <= _LONGEST_S):
        raise UsageError(f"{where} is {_shown(value)}, which is no time that a kernel takes")
    return seconds


def checked_name(value: object, where: str) -> str:
    """A name in a file.

    Raises:
        UsageError: it is not text.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise UsageError(f"{where} is {_shown(value)}, and not a name")
    return value


def checked_count(number: int, origin: str) -> None:
    """Refuse more kernels than any model has.

    Raises:
        UsageError: there are more, or none.
    """
    if number > MOST_KERNELS:
        raise UsageError(
            f"{origin} has more than {MOST_KERNELS:,} kernels in a run, which no model has"
        )
    if number == 0:
        raise UsageError(f"{origin} holds no kernel that ran; profile at least one run")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
