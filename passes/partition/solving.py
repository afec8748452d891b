"""Solves the placement problem of a program, measuring what the answer rests on."""

from __future__ import annotations

from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Problem, Solution, solve
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.problem import placement_problem


def solve_with_losses(
    program: Program,
    topology: Topology,
    *,
    objective: str = "latency",
    losses: LossMeter | None = None,
    time_limit_s: float | None = None,
    gap: float = 0.0,
) -> tuple[Problem, Solution]:
    """Solve, measure the losses that the plan rests on, and solve again until all are known.

    An unknown loss counts as 0, so the problem is never harder than the true one; a plan whose
    losses are all measured is therefore optimal for the true one.

    Raises:
        InfeasibleError: no plan keeps all constraints.
    """
    while True:
        problem = placement_problem(program, topology, objective=objective, losses=losses)
        solution = solve(problem, time_limit_s=time_limit_s, gap=gap).require_plan()
        if losses is None or not losses.learn((t.tensor, t.codec) for t in solution.transfers):
            return problem, solution
