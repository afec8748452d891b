"""partc solve for problems with arcs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from partc.cli.console import people, print_json

if TYPE_CHECKING:
    from partc.optimizer.horizontal import HorizontalProblem


def solve_and_print(
    problem: HorizontalProblem,
    *,
    time_limit_s: float | None,
    gap: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Solve it with and without its arcs, and print both.

    Raises:
        InfeasibleError: no plan satisfies the constraints (with `as_json`: ends with its code).
    """
    from partc.errors import InfeasibleError
    from partc.optimizer.horizontal import solve_horizontal, tiling_verdict

    solution = solve_horizontal(problem, time_limit_s=time_limit_s, gap=gap)
    untiled = solve_horizontal(problem.untiled(), time_limit_s=time_limit_s, gap=gap)
    verdict = None
    if solution.objective is not None:
        verdict = tiling_verdict(solution, untiled, objective=problem.objective)
    if as_json:
        data = solution.to_dict()
        data["baselines"] = {"untiled": {"objective": untiled.objective}}
        data["verdict"] = {"tiled": bool(solution.tiles), "sentence": verdict}
        print_json(data)
        if solution.objective is None:
            people(quiet).print(f"partc: {solution.why_no_plan}", markup=False)
            raise click.exceptions.Exit(InfeasibleError.exit_code)
        return
    solution.require_plan()
    console = people(quiet, to_stdout=True)
    console.print(
        f"{solution.status}: objective {solution.objective:.9g}, bound {solution.bound or 0:.9g}, "
        f"gap {0.0 if solution.gap is None else solution.gap:.3g}, "
        f"{solution.solver}, {solution.solve_s:.3f} s"
    )
    console.print(verdict, markup=False)
    for tiles in solution.tiles:
        hosts = ", ".join(problem.tiling_by_name[tiles.tiling].hosts)
        console.print(
            f"  {tiles.entry}..{tiles.exit}: {tiles.tiling} ({hosts}), from {tiles.source}",
            markup=False,
        )
    for op, host in solution.placement.items():
        console.print(f"  {op}: {host}", markup=False)
