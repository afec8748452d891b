"""How the strategies fare over bandwidth, and from where on splitting pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from partc.ir.plan import Plan, SweepPoint, Verdict
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Problem, Solution, evaluate, minimum_cut, solve
from partc.optimizer.cutting import why_not_a_cut
from partc.passes.lower.schedule import root_host
from partc.passes.partition.problem import placement_problem

_SWEEP_MBIT_S = tuple(float(b) for b in np.logspace(-1, 4, 26))
_FASTEST_MBIT_S = 1e7
_SAME = 1e-9
_LARGEST_NEWTON_STEPS = 60
_SWEPT = ("device-only", "edge-only", "single-cut")


@dataclass(frozen=True)
class BandwidthStudy:
    """The same placement problem at other bandwidths.

    A bandwidth is that from ``link.between[0]`` to ``between[1]``; the other direction keeps its
    proportion to it.
    """

    program: Program
    topology: Topology
    monotone: bool

    @property
    def declared_mbit_s(self) -> float:
        """What the topology says."""
        link = self.topology.links[0]
        return link.mbit_s(link.between[0])

    def problem_at(self, mbit_s: float) -> Problem:
        """The problem with that bandwidth, for latency."""
        return placement_problem(
            self.program,
            self.topology,
            monotone=self.monotone,
            bandwidth_factor=mbit_s / self.declared_mbit_s,
        )

    def best_at(self, mbit_s: float) -> Solution:
        """The optimum at that bandwidth."""
        problem = self.problem_at(mbit_s)
        if why_not_a_cut(problem) is None:
            return minimum_cut(problem)
        return solve(problem).require_plan()

    def latency_s(self, placement: dict[str, str], mbit_s: float) -> float:
        """What a placement takes at that bandwidth."""
        return evaluate(self.problem_at(mbit_s), placement).latency_s


def sweep(
    program: Program, topology: Topology, plan: Plan, monotone: bool
) -> tuple[SweepPoint, ...]:
    """Latency of the strategies from 0.1 Mbit/s to 10 Gbit/s; the optimum anew at each point."""
    study = BandwidthStudy(program, topology, monotone)
    placements = {s.name: dict(s.placement) for s in plan.strategies if s.name in _SWEPT}
    points: list[SweepPoint] = []
    for mbit_s in sorted({*_SWEEP_MBIT_S, study.declared_mbit_s}):
        problem = study.problem_at(mbit_s)
        predicted_s = {
            name: evaluate(problem, placement).latency_s for name, placement in placements.items()
        }
        best = study.best_at(mbit_s)
        assert best.evaluation is not None
        predicted_s["optimal"] = best.evaluation.latency_s
        points.append(SweepPoint(mbit_s, predicted_s))
    return tuple(points)


def judge(program: Program, topology: Topology, plan: Plan, monotone: bool) -> Verdict:
    """Whether splitting pays at the declared bandwidth, and from which on it would."""
    study = BandwidthStudy(program, topology, monotone)
    device = root_host(program, topology)
    hosts = set(plan.placement.values())
    choice = "split" if len(hosts) > 1 else ("device-only" if hosts <= {device} else "edge-only")
    alone = next((s for s in plan.strategies if s.name == "device-only"), None)
    break_even = None if alone is None else _break_even(study, dict(alone.placement))
    split_range = _split_range(study)
    return Verdict(
        split=choice == "split",
        choice=choice,
        break_even_mbit_s=break_even,
        split_range_mbit_s=split_range,
        sentence=_sentence(plan, study.declared_mbit_s, choice, device, break_even, split_range),
    )


def _break_even(study: BandwidthStudy, alone: dict[str, str]) -> float | None:
    """Newton's method over plans: each is a line in 1 / bandwidth, so it ends at the exact one."""
    alone_s = study.latency_s(alone, study.declared_mbit_s)
    mbit_s = _FASTEST_MBIT_S
    found: float | None = None
    for _ in range(_LARGEST_NEWTON_STEPS):
        best = study.best_at(mbit_s)
        assert best.evaluation is not None
        if best.evaluation.latency_s >= alone_s * (1 - _SAME):
            return found
        slow_s = study.latency_s(best.placement, mbit_s / 2)
        per_mbit_s = (slow_s - best.evaluation.latency_s) * mbit_s
        fixed_s = best.evaluation.latency_s - per_mbit_s / mbit_s
        if per_mbit_s <= 0:  # the plan sends nothing over the link: it wins at any bandwidth
            return 0.0
        found = per_mbit_s / (alone_s - fixed_s)
        if found >= mbit_s * (1 - _SAME):
            return found
        mbit_s = found
    return found


def _split_range(study: BandwidthStudy) -> tuple[float, float | None] | None:
    """The lowest and highest bandwidth at which a real split is optimal; None above: no limit."""
    grid = sorted({*_SWEEP_MBIT_S, study.declared_mbit_s})
    is_split = [_is_split(study, mbit_s) for mbit_s in grid]
    if not any(is_split):
        return None
    first, last = is_split.index(True), len(grid) - 1 - is_split[::-1].index(True)
    low = grid[first]
    if first > 0:
        low = _edge(grid[first - 1], grid[first], lambda b: _is_split(study, b))
    if last == len(grid) - 1:
        return low, None
    return low, _edge(grid[last + 1], grid[last], lambda b: _is_split(study, b))


def _edge(outside: float, inside: float, holds: Callable[[float], bool]) -> float:
    for _ in range(12):
        middle = float(np.sqrt(outside * inside))
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return inside


def _is_split(study: BandwidthStudy, mbit_s: float) -> bool:
    return len(set(study.best_at(mbit_s).placement.values())) > 1


def _sentence(
    plan: Plan,
    declared_mbit_s: float,
    choice: str,
    device: str,
    break_even: float | None,
    split_range: tuple[float, float | None] | None,
) -> str:
    best_ms = plan.certificate.predicted_s * 1e3
    alone_ms = next((s.predicted_s * 1e3 for s in plan.strategies if s.name == "device-only"), None)
    against = "" if alone_ms is None else f" against {alone_ms:.1f} ms on {device} alone"
    since = "" if not break_even else f" Leaving {device} pays from {break_even:.3g} Mbit/s on."
    if choice == "split":
        return f"Split: {best_ms:.1f} ms{against}.{since}"
    if split_range is None:
        would = " No bandwidth makes a split the best choice."
    elif split_range[1] is None:
        would = f" A split would be best from {split_range[0]:.3g} Mbit/s on."
    else:
        would = (
            f" A split would be best between {split_range[0]:.3g} and {split_range[1]:.3g} Mbit/s."
        )
    if choice == "device-only":
        return (
            f"Do not split: at {declared_mbit_s:g} Mbit/s {device} alone is best "
            f"({best_ms:.1f} ms).{since}{would}"
        )
    return f"Do not split: send the whole request away ({best_ms:.1f} ms{against}).{since}{would}"
