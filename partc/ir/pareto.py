"""Plans none of which is better than another in both of two objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ParetoPoint:
    """One plan of a front.

    Attributes:
        latency_s: one request, host after host.
        period_s: the slowest host or link direction: seconds per request of a full pipeline.
        energy_j: joules of one request, of the hosts whose energy counts.
        bytes_sent: bytes over all links, both directions.
        blocks: host -> how many blocks run there.
    """

    latency_s: float
    period_s: float
    energy_j: float
    bytes_sent: int
    blocks: Mapping[str, int]


@dataclass(frozen=True)
class ParetoFront:
    """From the best plan in the first objective to the best in the second.

    Attributes:
        complete: every trade-off is there and proven; otherwise the front is a sample.
    """

    objectives: tuple[str, str]
    points: tuple[ParetoPoint, ...]
    complete: bool
