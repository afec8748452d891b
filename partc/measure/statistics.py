"""From samples to a cost."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from partc.ir.cost import Cost


def summarise(samples_s: Sequence[float], scale: float = 1.0) -> Cost:
    """Median and half the interquartile range of ``samples_s``, both times ``scale``."""
    low, median, high = np.percentile(np.asarray(samples_s), [25, 50, 75]) * scale
    return Cost(
        median_s=float(median),
        spread_s=float(high - low) / 2,
        samples=len(samples_s),
        provenance="measured",
        measured_at=now(),
    )


def now() -> str:
    """The time as manifests and the store write it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
