"""From which link speed between servers on tiling pays, and the sentence that says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from partc.errors import UsageError
from partc.optimizer.horizontal.evaluation import evaluate_horizontal
from partc.optimizer.horizontal.problem import HorizontalProblem
from partc.optimizer.horizontal.solution import HorizontalPlan, HorizontalSolution
from partc.optimizer.horizontal.solving import solve_horizontal
from partc.optimizer.problem import Link, Objective
from partc.suggest import unknown_name

_SAME = 1e-7  # relative difference of costs that counts as none
_S_PER_BYTE_TIMES_MBIT = 8e-6
_SPEEDS_MBIT_S = tuple(10.0**power for power in range(6, -4, -1))


@dataclass(frozen=True)
class HorizontalBreakEven:
    """Where tiling pays.

    Attributes:
        bandwidth_mbit_s: from this link speed on some plan with tiles beats all without; 0 when it
            does at the slowest speed that was tried (0.001 Mbit/s), None when not even with
            infinitely fast links.
        accuracy: relative, of that number.
    """

    bandwidth_mbit_s: float | None
    accuracy: float


def with_bandwidth(
    problem: HorizontalProblem, hosts: Collection[str], bandwidth_mbit_s: float
) -> HorizontalProblem:
    """The problem with another speed, which may be infinite, of all links between these hosts.

    Raises:
        UsageError: a host is unknown, or no link joins two of them.
    """
    for name in hosts:
        if name not in problem.host_names:
            raise UsageError(unknown_name("host", name, problem.host_names))
    per_byte = 0.0 if math.isinf(bandwidth_mbit_s) else _S_PER_BYTE_TIMES_MBIT / bandwidth_mbit_s
    links = tuple(
        Link(between=link.between, seconds_per_byte=(per_byte, per_byte), latency_s=link.latency_s)
        if set(link.between) <= set(hosts)
        else link
        for link in problem.links
    )
    if links == problem.links and not any(set(each.between) <= set(hosts) for each in links):
        raise UsageError(f"No link joins two of the hosts {', '.join(sorted(hosts))}.")
    return problem.changed(links=links)


def horizontal_break_even(
    problem_at: Callable[[float], HorizontalProblem], *, accuracy: float = 0.01
) -> HorizontalBreakEven:
    """The link speed from which on tiling pays, within a relative accuracy.

    Powers of ten are tried from infinity down to the first at which it does not pay; between that
    and the last at which it does, the speed is found by halving. (A plan's time is no line in
    seconds per byte, since messages go at the same time, so there is no exact step from one plan
    to the next.)

    Args:
        problem_at: the problem at a link speed in Mbit/s, which may be infinite; see
            `with_bandwidth`.
        accuracy: ratio, less one, of the speeds between which the answer is known to be.

    Raises:
        UsageError: the accuracy makes no sense.
        InfeasibleError: no plan satisfies the constraints.
    """
    if not 0 < accuracy < 1:
        raise UsageError(f"The accuracy must be between 0 and 1, but it is {accuracy}.")
    search = _Search(problem_at)
    if not search.pays(math.inf):
        return HorizontalBreakEven(None, accuracy)
    above = math.inf
    for speed in _SPEEDS_MBIT_S:
        if not search.pays(speed):
            below = speed
            break
        above = speed
    else:
        return HorizontalBreakEven(0.0, accuracy)
    if math.isinf(above):
        above = below
        while not search.pays(above) and above < 1e12:
            below, above = above, above * 10
    while above / below > 1 + accuracy:
        middle = math.sqrt(above * below)
        if search.pays(middle):
            above = middle
        else:
            below = middle
    return HorizontalBreakEven(above, accuracy)


class _Search:
    def __init__(self, problem_at: Callable[[float], HorizontalProblem]) -> None:
        self.problem_at = problem_at
        self.tiled: list[HorizontalPlan] = []

    def pays(self, bandwidth_mbit_s: float) -> bool:
        """Whether some plan with tiles is better than all without."""
        problem = self.problem_at(bandwidth_mbit_s)
        if not problem.arcs:
            return False
        without = solve_horizontal(problem.untiled())
        limit = math.inf if without.objective is None else without.objective * (1 - _SAME)
        # A plan that was best at another speed often settles it without a solve.
        for plan in reversed(self.tiled):
            evaluation = evaluate_horizontal(problem, plan)
            if not evaluation.violations and evaluation.objective < limit:
                return True
        best = solve_horizontal(problem).require_plan()
        assert best.plan is not None and best.objective is not None
        if not best.tiles or best.objective >= limit:
            return False
        self.tiled.append(best.plan)
        return True


def tiling_verdict(
    best: HorizontalSolution,
    untiled: HorizontalSolution,
    *,
    tiled: HorizontalSolution | None = None,
    break_even: HorizontalBreakEven | None = None,
    objective: Objective = "latency",
) -> str:
    """Whether tiling pays, and from which link speed on it would, for people.

    Args:
        best: the optimum.
        untiled: the optimum of `problem.untiled()`.
        tiled: the optimum with `must_tile`.
        break_even: where it is known.
        objective: of the problem; throughput is in seconds per request, energy in joules.
    """
    speed = None if break_even is None else break_even.bandwidth_mbit_s
    without = f"{_value(untiled, objective)} without"
    if best.tiles and _is_better(best, untiled):
        text = f"Tiling over {len(_tile_hosts(best))} hosts pays: {_value(best, objective)}, "
        text += f"against {without}"
        if speed:
            text += f"; it does from {speed:.3g} Mbit/s between them on"
        return text + "."
    text = f"Tiling does not pay: {without}"
    if tiled is not None and tiled.objective is not None:
        text += f", against {_value(tiled, objective)} with"
    if speed:
        text += f"; it would from {speed:.3g} Mbit/s between the servers on"
    elif break_even is not None and speed is None:
        text += ", and no link between the servers is fast enough to change that"
    return text + "."


def _is_better(best: HorizontalSolution, untiled: HorizontalSolution) -> bool:
    if best.objective is None or untiled.objective is None:
        return best.objective is not None
    return best.objective < untiled.objective * (1 - _SAME)


def _tile_hosts(solution: HorizontalSolution) -> set[str]:
    assert solution.evaluation is not None
    names = {f"{tiles.entry}..{tiles.exit}" for tiles in solution.tiles}
    return {
        work.host
        for stage in solution.evaluation.stages
        if stage.name in names
        for work in stage.work
    }


def _value(solution: HorizontalSolution, objective: Objective) -> str:
    if solution.objective is None:
        return "no plan"
    if objective == "energy":
        return f"{solution.objective:.3g} J"
    per = " per request" if objective == "throughput" else ""
    return f"{solution.objective * 1e3:.3g} ms{per}"
