"""The Pareto front of two objectives, by tightening a budget on the first (epsilon constraint)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from partc.errors import UsageError
from partc.optimizer.evaluation import Evaluation
from partc.optimizer.problem import Objective, Problem
from partc.optimizer.solution import Solution
from partc.optimizer.solving import solve

_SAME = 1e-6


@dataclass(frozen=True)
class ParetoPoint:
    """One plan of a front; `values` are its two objectives, in the order asked for."""

    values: tuple[float, float]
    solution: Solution


@dataclass(frozen=True)
class ParetoFront:
    """Plans none of which is better than another in both objectives.

    Attributes:
        objectives: what is compared.
        points: from the best in the first objective to the best in the second.
        complete: whether every trade-off was found and proven (to a millionth); otherwise the
            front is a sample, since some were to be skipped or the time was too short.
    """

    objectives: tuple[Objective, Objective]
    points: tuple[ParetoPoint, ...]
    complete: bool


def pareto_front(
    problem: Problem,
    objectives: tuple[Objective, Objective] = ("latency", "energy"),
    *,
    most_points: int | None = 50,
    time_limit_s: float | None = None,
) -> ParetoFront:
    """The plans that are best for some weight or limit on two objectives.

    Args:
        problem: its own objective is ignored.
        objectives: two of latency, throughput (seconds per request), energy.
        most_points: trade-offs closer than this share of the range are skipped; None skips none.
        time_limit_s: for the whole front.

    Raises:
        UsageError: the objectives are not two different ones.
        InfeasibleError: no plan satisfies the problem's constraints.
    """
    first, second = objectives
    if first == second or not {first, second} <= {"latency", "throughput", "energy"}:
        raise UsageError("A Pareto front needs two of latency, throughput and energy.")
    if most_points is not None and most_points < 2:
        raise UsageError("A Pareto front needs at least two points.")
    # Energy has no budget over several hosts, so it is the one that is minimised.
    limited, minimised = (second, first) if first == "energy" else (first, second)
    points, complete = _walk(problem, limited, minimised, most_points, time_limit_s)
    chosen = [
        ParetoPoint((_value(plan.evaluation, first), _value(plan.evaluation, second)), plan)
        for plan in points
        if plan.evaluation is not None
    ]
    return ParetoFront((first, second), tuple(_undominated(chosen)), complete)


def _walk(
    problem: Problem,
    limited: Objective,
    minimised: Objective,
    most_points: int | None,
    time_limit_s: float | None,
) -> tuple[list[Solution], bool]:
    ends = None if time_limit_s is None else time.perf_counter() + time_limit_s

    def left_s() -> float | None:
        return None if ends is None else max(ends - time.perf_counter(), 0.01)

    start = solve(problem.changed(objective=limited), time_limit_s=left_s()).require_plan()
    lowest = _value(start.evaluation, limited)
    plans: list[Solution] = []
    complete = start.status == "optimal"
    step = 0.0
    limit: float | None = None
    complete = complete and most_points is None
    while ends is None or time.perf_counter() < ends:
        trial = problem.changed(objective=minimised)
        if limit is not None:
            field = "deadline_s" if limited == "latency" else "period_s"
            own = getattr(trial.constraints, field)
            trial = trial.constrained(**{field: limit if own is None else min(own, limit)})
        plan = solve(trial, time_limit_s=left_s())
        if plan.objective is None:
            complete = complete and plan.status == "infeasible"
            break
        complete = complete and plan.status == "optimal"
        plans.append(plan)
        reached = _value(plan.evaluation, limited)
        if limit is None and most_points is not None:
            step = (reached - lowest) / most_points
        if reached <= lowest * (1 + 2 * _SAME):
            return plans, complete
        limit = max(min(reached * (1 - _SAME), reached - step), lowest)
    else:
        complete = False
    plans.append(start)
    return plans, complete


def _value(evaluation: Evaluation | None, objective: Objective) -> float:
    assert evaluation is not None
    if objective == "latency":
        return evaluation.latency_s
    if objective == "throughput":
        return evaluation.bottleneck_s
    return evaluation.counted_energy_j


def _undominated(points: list[ParetoPoint]) -> list[ParetoPoint]:
    kept: list[ParetoPoint] = []
    for point in sorted(points, key=lambda p: p.values):
        if not kept or point.values[1] < kept[-1].values[1] * (1 - _SAME):
            kept.append(point)
    return kept
