"""How the strategies fare over bandwidth, and from where on splitting pays."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import numpy as np

from partc.errors import InfeasibleError
from partc.ir.plan import Plan, Strategy, SweepPoint, Verdict
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import BreakEven, Problem, Solution, break_even, evaluate, minimum_cut, solve
from partc.optimizer.cutting import why_not_a_cut
from partc.passes.lower.schedule import root_host
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.would_pay import longest_round_trip_ms, slowest_server_speed

_SWEEP_MBIT_S = tuple(float(b) for b in np.logspace(-1, 4, 26))
NOT_FOUND = BreakEven(None, ())
_SWEPT = ("device-only", "edge-only", "single-cut")


@dataclass(frozen=True)
class BandwidthStudy:
    """The same placement problem at other bandwidths.

    A bandwidth is that from ``link.between[0]`` to ``between[1]``; the other direction keeps its
    proportion to it. Of a bus it is that of the medium.
    """

    program: Program
    topology: Topology
    losses: LossMeter | None = None
    objective: str = "latency"

    @property
    def declared_mbit_s(self) -> float:
        """What the topology says."""
        if self.topology.bus:
            return self.topology.bus[0].bandwidth_mbit_s
        link = self.topology.links[0]
        return link.mbit_s(link.between[0])

    def problem_at(self, mbit_s: float) -> Problem:
        """The problem with that bandwidth."""
        return placement_problem(
            self.program,
            self.topology,
            bandwidth_factor=mbit_s / self.declared_mbit_s,
            objective=self.objective,
            losses=self.losses,
        )

    def best_at(self, mbit_s: float) -> Solution:
        """The optimum at that bandwidth."""
        while True:
            problem = self.problem_at(mbit_s)
            if why_not_a_cut(problem) is None:
                return minimum_cut(problem)
            plan = solve(problem).require_plan()
            if self.losses is None or not self.losses.learn(
                (t.tensor, t.codec) for t in plan.transfers
            ):
                return plan

    def break_even(self) -> BreakEven:
        """From which bandwidth on another host pays, with all losses known that it rests on."""
        while True:
            before = self._known_losses
            found = break_even(self.problem_at)
            ends = [end for ends in found.split_mbit_s for end in ends]
            for mbit_s in {self.declared_mbit_s, found.bandwidth_mbit_s, *ends}:
                if self.losses is not None and mbit_s:
                    self.best_at(mbit_s)
            if self._known_losses == before:
                return found

    @property
    def _known_losses(self) -> int:
        return 0 if self.losses is None else self.losses.count


def sweep(
    program: Program, topology: Topology, plan: Plan, losses: LossMeter | None = None
) -> tuple[SweepPoint, ...]:
    """Latency of the strategies from 0.1 Mbit/s to 10 Gbit/s; the optimum anew at each point."""
    study = BandwidthStudy(program, topology, losses)
    placements = {s.name: dict(s.placement) for s in plan.strategies if s.name in _SWEPT}
    points: list[SweepPoint] = []
    for mbit_s in sorted({*_SWEEP_MBIT_S, study.declared_mbit_s}):
        problem = study.problem_at(mbit_s)
        predicted_s = {
            name: evaluate(problem, placement).latency_s for name, placement in placements.items()
        }
        with contextlib.suppress(InfeasibleError):  # a budget may not be met at this bandwidth
            best = study.best_at(mbit_s)
            assert best.evaluation is not None
            predicted_s["optimal"] = best.evaluation.latency_s
        points.append(SweepPoint(mbit_s, predicted_s))
    return tuple(points)


def judge(
    program: Program,
    topology: Topology,
    plan: Plan,
    losses: LossMeter | None = None,
    objective: str = "latency",
) -> Verdict:
    """Whether splitting pays at the declared bandwidth, and from which on it would.

    For throughput no bandwidth is given: the slowest stage is no line in seconds per byte.
    """
    study = BandwidthStudy(program, topology, losses, objective)
    device = root_host(program, topology)
    hosts = set(plan.placement.values())
    choice = "split" if len(hosts) > 1 else ("device-only" if hosts <= {device} else "edge-only")
    try:
        found = NOT_FOUND if objective == "throughput" else study.break_even()
    except InfeasibleError:  # a budget is not met at some bandwidths, so plans are no lines there
        found = NOT_FOUND
    split_range: tuple[float, float | None] | None = None
    if found.split_mbit_s:
        low, high = found.split_mbit_s[0][0], found.split_mbit_s[-1][1]
        split_range = (low, high if math.isfinite(high) else None)
    verdict = Verdict(
        split=choice == "split",
        choice=choice,
        break_even_mbit_s=found.bandwidth_mbit_s,
        split_range_mbit_s=split_range,
        sentence="",
    )
    if choice == "device-only" and objective != "throughput":
        declared = study.problem_at(study.declared_mbit_s)
        verdict = replace(
            verdict,
            break_even_rtt_ms=longest_round_trip_ms(declared, topology),
            break_even_server_speed=slowest_server_speed(declared, device),
        )
    return replace(verdict, sentence=_sentence(plan, study.declared_mbit_s, device, verdict))


def _sentence(
    plan: Plan,
    declared_mbit_s: float,
    device: str,
    verdict: Verdict,
) -> str:
    objective = plan.certificate.objective

    def value(strategy: Strategy) -> str:
        if objective == "throughput":
            return f"one request every {strategy.period_s * 1e3:.1f} ms"
        if objective == "energy":
            return f"{strategy.energy_j:.3g} J"
        return f"{strategy.predicted_s * 1e3:.1f} ms"

    named = {strategy.name: strategy for strategy in plan.strategies}
    best = value(named["optimal"])
    alone = named.get("device-only")
    against = "" if alone is None else f" against {value(alone)} on {device} alone"
    since = _since(verdict, device)
    if verdict.choice == "split":
        return f"Split: {best}{against}.{since}"
    would = ""
    if objective != "throughput":
        would = _where_a_split_is_best(verdict.split_range_mbit_s)
    if verdict.choice == "device-only":
        return (
            f"Do not split: at {declared_mbit_s:g} Mbit/s {device} alone is best ({best})."
            f"{since}{would}"
        )
    return f"Do not split: send the whole request away ({best}{against}).{since}{would}"


def _since(verdict: Verdict, device: str) -> str:
    conditions: list[str] = []
    if verdict.break_even_mbit_s:
        conditions.append(f"from {verdict.break_even_mbit_s:.3g} Mbit/s on")
    if verdict.break_even_rtt_ms:
        conditions.append(f"below a round trip of {verdict.break_even_rtt_ms:.3g} ms")
    if verdict.break_even_server_speed:
        conditions.append(f"with servers {verdict.break_even_server_speed:.3g} times as fast")
    return f" Leaving {device} pays {', or '.join(conditions)}." if conditions else ""


def _where_a_split_is_best(split_range: tuple[float, float | None] | None) -> str:
    if split_range is None:
        return " No bandwidth makes a split the best choice."
    low, high = split_range
    if high is None:
        return f" A split would be best from {low:.3g} Mbit/s on."
    return f" A split would be best between {low:.3g} and {high:.3g} Mbit/s."
