"""A plan: a host for every op, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from partc.ir.pareto import ParetoFront
from partc.ir.tiling import TileGroup


@dataclass(frozen=True)
class Transfer:
    """One tensor moved over one link, once.

    Attributes:
        size_bytes: bytes on the link, after the codec.
        predicted_s: seconds.
    """

    tensor: str
    sender: str
    receiver: str
    size_bytes: int
    predicted_s: float
    codec: str = "none"


@dataclass(frozen=True)
class Strategy:
    """A named way of placing the model, for comparison.

    Attributes:
        predicted_s: latency of one request, seconds.
        bytes_sent: bytes over all links, both directions.
        compute_s: host -> seconds of compute.
        transfer_s: seconds on links.
        placement: block -> host.
        period_s: the slowest host or link direction: seconds per request of a full pipeline.
        energy_j: joules of one request, of the hosts whose energy counts.
    """

    name: str
    predicted_s: float
    bytes_sent: int
    compute_s: Mapping[str, float]
    transfer_s: float
    placement: Mapping[str, str]
    period_s: float = 0.0
    energy_j: float = 0.0


@dataclass(frozen=True)
class Certificate:
    """What was proven of a plan's cost.

    Attributes:
        predicted_s: seconds of one request for latency and energy; for throughput the slowest
            host or link direction, seconds per request.
        bound_s: no plan can be better than this; 0 for energy, which ``bound_j`` bounds.
        gap: (predicted - bound) / predicted, of the objective.
        latency_s: one request, host after host; for throughput the time to fill the pipeline.
        simulated_s: one request with hosts and links working side by side; at most latency_s.
        predicted_j, bound_j: joules, for energy.
        status: ``optimal`` only when the gap is proven closed.
        maximum_flow_s: the value of a minimum cut, where the problem is one: a second proof.
    """

    objective: str
    predicted_s: float
    bound_s: float
    gap: float
    status: str
    solver: str
    solve_s: float
    maximum_flow_s: float | None = None
    latency_s: float | None = None
    simulated_s: float | None = None
    predicted_j: float | None = None
    bound_j: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether splitting pays.

    Attributes:
        split: the optimal plan computes on more than one host.
        choice: ``split``, or the name of the one-host strategy that is optimal.
        break_even_mbit_s: from this bandwidth on, using another host beats the device alone;
            None when it never does, or when that was not examined.
        split_range_mbit_s: the bandwidths between which a real split is optimal (the range that
            is nearest to the declared bandwidth), or None.
        sentence: the same in words.
        break_even_rtt_ms: where the device alone is best, the round trip below which another host
            would pay; None when it never does (or pays already).
        break_even_server_speed: likewise, how many times faster than declared the servers must be.
        bandwidths_examined: whether other bandwidths, round trips and speeds were looked at; they
            are not for throughput, nor under a deadline or an energy budget.
    """

    split: bool
    choice: str
    break_even_mbit_s: float | None
    split_range_mbit_s: tuple[float, float | None] | None
    sentence: str
    break_even_rtt_ms: float | None = None
    break_even_server_speed: float | None = None
    bandwidths_examined: bool = True


@dataclass(frozen=True)
class SweepPoint:
    """Latency of each strategy at one bandwidth, seconds."""

    bandwidth_mbit_s: float
    predicted_s: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """The chosen placement and the evidence for it.

    Attributes:
        placement: op -> host, for every op that is not constant.
        transfers: every tensor that moves, at most once to each host.
        problem: the placement problem as plain data, as ``partc solve`` reads it.
        pareto: the front of two objectives, where one was asked for.
        tiling: what several hosts compute side by side; the pass ``tile`` makes ops of it. For
            their ops ``placement`` has no meaning until then.
        unmet: why no plan without tiles keeps all constraints; this one keeps all but deadline and
            memory then, and is for `plan-tiles` to replace. Empty where this one keeps them.
    """

    placement: Mapping[str, str]
    transfers: tuple[Transfer, ...]
    strategies: tuple[Strategy, ...]
    certificate: Certificate
    verdict: Verdict | None
    sweep: tuple[SweepPoint, ...]
    problem: Mapping[str, object]
    pareto: ParetoFront | None = None
    tiling: tuple[TileGroup, ...] = ()
    unmet: str = ""
