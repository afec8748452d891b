"""The Pareto front of two objectives, as a program's plan carries it."""

from __future__ import annotations

from collections import Counter
from typing import cast

from partc.errors import UsageError
from partc.ir.pareto import ParetoFront, ParetoPoint
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Solution, pareto_front
from partc.optimizer.problem import Objective
from partc.passes.partition.constraints import check_energy
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.problem import placement_problem
from partc.suggest import unknown_name
from partc.targets.power import powered

_OBJECTIVES = ("latency", "throughput", "energy")
_MOST_POINTS = 20


def pareto_objectives(text: str) -> tuple[Objective, Objective]:
    """The two objectives of ``latency/energy`` or ``latency,energy``.

    Raises:
        UsageError: the text does not name two different objectives.
    """
    names = [name.strip() for name in text.replace("/", ",").split(",")]
    for name in names:
        if name not in _OBJECTIVES:
            raise UsageError(f"a Pareto front: {unknown_name('objective', name, _OBJECTIVES)}")
    if len(names) != 2 or names[0] == names[1]:
        raise UsageError(
            f"a Pareto front has two different objectives, as latency,energy; {text!r} has not"
        )
    return cast(tuple[Objective, Objective], (names[0], names[1]))


def make_front(
    program: Program,
    topology: Topology,
    objectives: tuple[Objective, Objective],
    losses: LossMeter | None,
    time_limit_s: float | None,
) -> ParetoFront:
    """The front; losses that its plans rest on are measured until all are known.

    Raises:
        TopologyError: energy is to count, and no host's power is known.
        InfeasibleError: no plan satisfies the constraints.
    """
    if "energy" in objectives:
        check_energy(powered(topology), "energy")
    while True:
        problem = placement_problem(program, topology, losses=losses)
        front = pareto_front(
            problem, objectives, most_points=_MOST_POINTS, time_limit_s=time_limit_s
        )
        used = [(t.tensor, t.codec) for p in front.points for t in p.solution.transfers]
        if losses is None or not losses.learn(used):
            break
    points = tuple(_point(point.solution) for point in front.points)
    return ParetoFront(objectives, points, front.complete)


def _point(plan: Solution) -> ParetoPoint:
    assert plan.evaluation is not None
    return ParetoPoint(
        latency_s=plan.evaluation.latency_s,
        period_s=plan.evaluation.bottleneck_s,
        energy_j=plan.evaluation.counted_energy_j,
        bytes_sent=round(sum(t.bytes for t in plan.transfers)),
        blocks=dict(Counter(plan.placement.values())),
    )
