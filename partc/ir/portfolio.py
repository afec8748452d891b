"""Several plans for changing conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from partc.ir.plan import Transfer
from partc.ir.segment import Segment


@dataclass(frozen=True)
class CostVector:
    """A plan's latency as a sum, so that choosing among plans is a dot product.

    Attributes:
        constant_s: encoding and decoding of transfers.
        device_s, server_s: computing on the device, and on all other hosts, at slowdown 1
            (relative to what the topology declares).
        sent_bytes: bytes as if all went over the first link towards its second host.
        round_trips: latency per second of the first link's round trip.
    """

    constant_s: float
    device_s: float
    server_s: float
    sent_bytes: float
    round_trips: float


@dataclass(frozen=True)
class Alternative:
    """One plan of a portfolio.

    Attributes:
        placement: op -> host.
        survives: hosts that it does not need.
        segments: made by ``split``; a segment of the same ops on the same host is the same in
            all plans.
    """

    name: str
    placement: Mapping[str, str]
    transfers: tuple[Transfer, ...]
    cost: CostVector
    survives: tuple[str, ...]
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True)
class RuledPoint:
    """Which plan is best at one condition, for the drawing."""

    bandwidth_mbit_s: float
    device_slowdown: float
    server_slowdown: float
    plan: str
    predicted_s: float


@dataclass(frozen=True)
class Portfolio:
    """The few plans that are near the optimum everywhere in the declared range of conditions.

    Attributes:
        base_rtt_s: the round trip, with fixed costs, that the topology declares for the first
            link: what ``round_trips`` is multiplied by where nothing else is known.
        message_s_per_byte: what a byte costs besides the link, at any bandwidth.
        certified_fraction: share of the range in which some plan is proven to be within
            ``tolerance`` of the optimum.
        known_plans: how many plans make up the known optimum over the range.
        map: who rules where, on a grid.
    """

    plans: tuple[Alternative, ...]
    base_bandwidth_mbit_s: float
    base_rtt_s: float
    message_s_per_byte: float
    tolerance: float
    certified_fraction: float
    known_plans: int
    solve_s: float
    map: tuple[RuledPoint, ...]
