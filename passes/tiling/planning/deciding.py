"""Whether a plan with tiles is taken, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from partc.ir.cost import Cost
from partc.ir.plan import Certificate, Plan, Strategy, Verdict
from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.optimizer.horizontal import HorizontalBreakEven, HorizontalSolution, tiling_verdict
from partc.passes.refine.forecast import Forecast

OPTIMAL, VERTICAL, EVEN_TILES = "optimal", "vertical", "even-tiles"
_WORTH_IT = 0.01  # of the latency that tiles must save: they involve more hosts


@dataclass(frozen=True)
class Tried:
    """A plan with tiles, and what it takes by the measured times of its segments.

    Attributes:
        program: with the plan, not yet rewritten.
        costs: (host, ops) -> what a segment of the rewritten program was measured to cost.
    """

    solution: HorizontalSolution
    groups: tuple[TileGroup, ...]
    program: Program
    forecast: Forecast
    costs: Mapping[tuple[str, tuple[str, ...]], Cost]


def pays(plan: Plan, tried: Tried) -> bool:
    """Whether tiles are predicted to be faster than the plan without."""
    return tried.forecast.simulated_s < (1 - _WORTH_IT) * plan.certificate.predicted_s


def verdict_of(
    plan: Plan,
    untiled: HorizontalSolution,
    tried: Tried | None,
    takes: bool,
    break_even: HorizontalBreakEven | None,
) -> Verdict:
    """Whether tiling pays by the measured times, and from which link speed on it would.

    Args:
        plan: without tiles.
        untiled: the same as the horizontal problem has it.
        takes: whether the tiles are taken.
    """
    without = replace(untiled, objective=plan.certificate.predicted_s)
    if tried is None:
        sentence = tiling_verdict(without, without, break_even=break_even)
    elif pays(plan, tried):
        tiled = replace(tried.solution, objective=tried.forecast.simulated_s)
        sentence = tiling_verdict(tiled, without, break_even=break_even)
    else:  # once measured, tiles took longer than the link's speed can tell
        tiled = replace(tried.solution, objective=tried.forecast.simulated_s)
        sentence = tiling_verdict(without, without, tiled=tiled)
        if takes:
            sentence = f"Tiles were asked for. {sentence}"
    hosts = set(tried.solution.placement.values()) if tried and takes else set()
    return Verdict(
        split=takes or len(hosts) > 1 or len(set(plan.placement.values())) > 1,
        choice="tiles" if takes else "no tiles",
        break_even_mbit_s=None,
        split_range_mbit_s=None,
        sentence=sentence,
        bandwidths_examined=False,
    )


def rescue_verdict(tried: Tried) -> Verdict:
    """Of tiles that keep constraints which no plan without them keeps."""
    count = len({host for group in tried.groups for host in group.hosts})
    return Verdict(
        split=True,
        choice="tiles",
        break_even_mbit_s=None,
        split_range_mbit_s=None,
        sentence=f"Only with tiles over {count} hosts are all constraints kept: "
        f"{tried.forecast.simulated_s * 1e3:.3g} ms.",
        bandwidths_examined=False,
    )


def plan_with_tiles(
    plan: Plan, tried: Tried, even: HorizontalSolution | None, verdict: Verdict
) -> Plan:
    """The plan with tiles in place of `plan`, whose optimum is kept for comparison."""
    solution = tried.solution
    assert solution.objective is not None and solution.evaluation is not None
    predicted_s = tried.forecast.simulated_s
    certificate = Certificate(
        objective="latency",
        predicted_s=predicted_s,
        bound_s=min(predicted_s, solution.bound or 0.0),
        gap=1.0 if solution.gap is None else solution.gap,
        status=solution.status,
        solver=solution.solver,
        solve_s=solution.solve_s,
        latency_s=tried.forecast.latency_s,
        simulated_s=predicted_s,
    )
    # Where no plan without tiles keeps the constraints, there is none to compare with.
    strategies = [
        replace(each, name=VERTICAL) if each.name == OPTIMAL else each
        for each in (() if plan.unmet else plan.strategies)
    ]
    if even is not None and even.objective is not None:
        strategies.append(_strategy(EVEN_TILES, even, even.objective))
    strategies.append(_strategy(OPTIMAL, solution, predicted_s))
    return replace(
        plan,
        placement=tried.program.plan.placement if tried.program.plan else plan.placement,
        tiling=tried.groups,
        transfers=(),
        strategies=tuple(strategies),
        certificate=certificate,
        verdict=verdict,
        sweep=(),
        pareto=None,
        unmet="",
    )


def _strategy(name: str, solution: HorizontalSolution, predicted_s: float) -> Strategy:
    evaluation = solution.evaluation
    assert evaluation is not None
    compute_s: dict[str, float] = {}
    for stage in evaluation.stages:
        for work in stage.work:
            compute_s[work.host] = compute_s.get(work.host, 0.0) + work.seconds
    return Strategy(
        name=name,
        predicted_s=predicted_s,
        bytes_sent=round(sum(message.bytes for message in evaluation.messages)),
        compute_s=compute_s,
        transfer_s=sum(message.seconds for message in evaluation.messages),
        placement=dict(solution.placement),
        period_s=evaluation.bottleneck_s,
    )
