"""From samples to a cost: medians, how well they are known, and whether they drift."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from partc.ir.cost import Cost

CONFIDENCE = 0.95
PRECISION = 0.02
_MOST_EXACT = 500
_MOST_COMPARED = 300
_FEWEST_FOR_TREND = 10
_TREND_SCORE = 3.29  # two-sided p = 0.001
_NORMAL_SCORE = 1.96


@dataclass(frozen=True)
class Interval:
    """Between which values a median lies, in the unit of the samples.

    Attributes:
        is_confident: whether there were enough samples for the confidence that was asked for.
    """

    low: float
    high: float
    is_confident: bool

    @property
    def half_width(self) -> float:
        """Half of what lies between."""
        return (self.high - self.low) / 2


def median_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median's confidence interval by order statistics: it supposes no distribution.

    How many of n independent samples lie below the median is binomial(n, 1/2), so the median lies
    between the k-th smallest and the k-th largest sample with a probability that follows from n
    and k alone. Fewer than 6 samples cannot give 95 %; the interval is then their range.
    """
    if not samples:
        return Interval(0.0, 0.0, False)
    ordered = sorted(samples)
    rank = _rank(len(ordered), confidence)
    if rank == 0:
        return Interval(ordered[0], ordered[-1], False)
    return Interval(ordered[rank - 1], ordered[-rank], True)


@cache
def _rank(count: int, confidence: float) -> int:
    """The largest k whose k-th smallest and largest enclose the median; 0 if none does."""
    if count > _MOST_EXACT:
        return int(count / 2 - _NORMAL_SCORE * math.sqrt(count) / 2)
    outside, rank = 0, 0
    allowed = (1 - confidence) / 2 * 2**count
    while rank <= count // 2:
        outside += math.comb(count, rank)
        if outside > allowed:
            break
        rank += 1
    return min(rank, count // 2)


def is_settled(samples: Sequence[float], precision: float = PRECISION) -> bool:
    """Whether the median's interval reaches no further than ``precision`` of it to each side."""
    interval = median_interval(samples)
    if not interval.is_confident:
        return False
    median = float(np.median(np.asarray(samples)))
    return interval.half_width <= precision * median


@dataclass(frozen=True)
class Trend:
    """Whether samples rise or fall while they are taken.

    Attributes:
        change: the last third's median over the first third's, less 1.
        is_certain: a test for trend finds it; chance gives as much in one of 1,000 series.
    """

    change: float
    is_certain: bool


def trend(samples: Sequence[float]) -> Trend:
    """The Mann-Kendall test: how many pairs of samples stand in rising order."""
    values = np.asarray(samples, np.float64)
    if len(values) < _FEWEST_FOR_TREND:
        return Trend(0.0, False)
    third = len(values) // 3
    first, last = (float(np.median(part)) for part in (values[:third], values[-third:]))
    change = last / first - 1 if first > 0 else 0.0
    if len(values) > _MOST_COMPARED:
        values = values[np.linspace(0, len(values) - 1, _MOST_COMPARED).astype(int)]
    count = len(values)
    rising = np.sign(values[None, :] - values[:, None])
    score = float(np.triu(rising, 1).sum())
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return Trend(change, abs(score) / deviation > _TREND_SCORE)


def is_warm(samples: Sequence[float], tolerance: float = 0.05) -> bool:
    """Whether runs have stopped getting faster: the last was not clearly the fastest yet."""
    return len(samples) > 1 and samples[-1] >= (1 - tolerance) * min(samples[:-1])


def summarise(
    samples_s: Sequence[float],
    scale: float = 1.0,
    *,
    settled: bool | None = None,
    doubt: float = 0.0,
    fingerprint: str = "",
) -> Cost:
    """Median and half the interquartile range of ``samples_s``, both times ``scale``.

    Args:
        settled: whether the measurement ended because it was precise enough; if None, whether
            these samples are.
        doubt: share of the median by which spread and interval are widened, as where the
            machine was busy.
        fingerprint: hardware and backend that were measured.
    """
    low, median, high = np.percentile(np.asarray(samples_s), [25, 50, 75]) * scale
    widening_s = doubt * float(median)
    return Cost(
        median_s=float(median),
        spread_s=float(high - low) / 2 + widening_s,
        samples=len(samples_s),
        provenance="measured",
        measured_at=now(),
        interval_s=median_interval(samples_s).half_width * scale + widening_s,
        settled=is_settled(samples_s) if settled is None else settled,
        fingerprint=fingerprint,
    )


def now() -> str:
    """The time as manifests and the store write it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
