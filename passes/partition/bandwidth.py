"""How the strategies fare over bandwidth, and from where on splitting pays."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from partc.errors import InfeasibleError
from partc.ir.plan import Plan, Strategy, SweepPoint, Verdict
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import BreakEven, Problem, Solution, break_even, evaluate, minimum_cut, solve
from partc.optimizer.codec_choice import best_codecs
from partc.optimizer.cutting import why_not_a_cut
from partc.passes.lower.schedule import root_host
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.would_pay import longest_round_trip_ms, slowest_server_speed

_SWEEP_MBIT_S = tuple(float(b) for b in np.logspace(-1, 4, 26))
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

    def latency_s(self, problem: Problem, mbit_s: float, placement: Mapping[str, str]) -> float:
        """Latency of a placement with its best codecs, in the problem at that bandwidth."""
        while True:
            codecs = best_codecs(problem, placement) or {}
            used = [(tensor, codec) for (tensor, _, _), codec in codecs.items()]
            if self.losses is None or not self.losses.learn(used):
                return evaluate(problem, placement, codecs).latency_s
            problem = self.problem_at(mbit_s)

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
    mbit_s = sorted({*_SWEEP_MBIT_S, study.declared_mbit_s})
    for at, best in zip(mbit_s, _optima(study, mbit_s), strict=True):
        problem = study.problem_at(at)
        predicted_s = {
            name: study.latency_s(problem, at, placement) for name, placement in placements.items()
        }
        if best is not None:
            predicted_s["optimal"] = evaluate(problem, best.placement, best.codecs).latency_s
        points.append(SweepPoint(at, predicted_s))
    return tuple(points)


def _optima(study: BandwidthStudy, mbit_s: Sequence[float]) -> list[Solution | None]:
    """The optimum at each bandwidth; None where there is none.

    A plan's latency is a line in seconds per byte, and the optimum their lower envelope: a plan
    that is optimal at two bandwidths is optimal between them. A deadline or an energy budget
    forbids plans at some bandwidths, so then each is solved.
    """
    found: list[Solution | None] = [None] * len(mbit_s)
    limits = study.topology.constraints
    is_envelope = limits.deadline_ms is None and not limits.energy_j

    def solve_at(index: int) -> None:
        with contextlib.suppress(InfeasibleError):
            found[index] = study.best_at(mbit_s[index])

    def fill(low: int, high: int) -> None:
        if high - low < 2:
            return
        one, other = found[low], found[high]
        if is_envelope and one is not None and other is not None and _same_plan(one, other):
            found[low + 1 : high] = [one] * (high - low - 1)
            return
        middle = (low + high) // 2
        solve_at(middle)
        fill(low, middle)
        fill(middle, high)

    solve_at(0)
    solve_at(len(mbit_s) - 1)
    fill(0, len(mbit_s) - 1)
    return found


def _same_plan(one: Solution, other: Solution) -> bool:
    return one.placement == other.placement and one.codecs == other.codecs


def judge(
    program: Program,
    topology: Topology,
    plan: Plan,
    losses: LossMeter | None = None,
    objective: str = "latency",
) -> Verdict:
    """Whether splitting pays at the declared bandwidth, and from which on it would.

    For throughput no bandwidth is given: the slowest stage is no line in seconds per byte. Nor is
    it where a deadline or an energy budget forbids plans at some bandwidths.
    """
    study = BandwidthStudy(program, topology, losses, objective)
    device = root_host(program, topology)
    hosts = set(plan.placement.values())
    choice = "split" if len(hosts) > 1 else ("device-only" if hosts <= {device} else "edge-only")
    found = _examined(study, objective)
    split_range = None
    if found is not None:
        split_range = _nearest_split(found, study.declared_mbit_s, choice)
    verdict = Verdict(
        split=choice == "split",
        choice=choice,
        break_even_mbit_s=None if found is None else found.bandwidth_mbit_s,
        split_range_mbit_s=split_range,
        sentence="",
        bandwidths_examined=found is not None,
    )
    if choice == "device-only" and found is not None:
        declared = study.problem_at(study.declared_mbit_s)
        verdict = replace(
            verdict,
            break_even_rtt_ms=longest_round_trip_ms(declared, topology),
            break_even_server_speed=slowest_server_speed(declared, device),
        )
    return replace(verdict, sentence=_sentence(plan, study.declared_mbit_s, device, verdict))


def _examined(study: BandwidthStudy, objective: str) -> BreakEven | None:
    limits = study.topology.constraints
    if objective == "throughput" or limits.deadline_ms is not None or limits.energy_j:
        return None
    try:
        return study.break_even()
    except InfeasibleError:
        return None


def _nearest_split(
    found: BreakEven, declared_mbit_s: float, choice: str
) -> tuple[float, float | None] | None:
    """Of the ranges in which a split is best, the one that the declared bandwidth is nearest to."""

    def distance(span: tuple[float, float]) -> float:
        low, high = (math.log(max(end, 1e-9)) for end in span)
        at = math.log(declared_mbit_s)
        return max(low - at, at - high, 0.0)

    # Where the declared bandwidth is known to want no split, no range goes across it.
    ranges = [r for r in found.split_mbit_s if choice == "split" or distance(r) > 0]
    if not ranges:
        return None
    low, high = min(ranges, key=distance)
    return low, high if math.isfinite(high) else None


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
    if verdict.bandwidths_examined:
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
