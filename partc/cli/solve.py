"""partc solve."""

from __future__ import annotations

from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json, quiet_option


@click.command("solve")
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--time-limit", type=float, metavar="SECONDS", help="Best plan found until then.")
@click.option("--gap", type=float, default=0.0, show_default=True, help="Relative gap to prove.")
@json_option
@quiet_option
def command(
    problem: Path, time_limit: float | None, gap: float, as_json: bool, quiet: bool
) -> None:
    """Solve PROBLEM, a placement problem as JSON (docs/optimizer.md), without any ONNX.

    With the key `arcs` it is a horizontal problem (docs/horizontal_problem.md).
    """
    from partc.errors import InfeasibleError
    from partc.optimizer import Problem, baselines, solve
    from partc.optimizer.horizontal import any_problem_from_json

    read = any_problem_from_json(problem)
    if not isinstance(read, Problem):
        from partc.cli.solve_horizontal import solve_and_print

        solve_and_print(read, time_limit_s=time_limit, gap=gap, as_json=as_json, quiet=quiet)
        return
    solution = solve(read, time_limit_s=time_limit, gap=gap)
    if as_json:
        data = solution.to_dict()
        plain = baselines(read, codecs=False)
        data["baselines"] = {
            name: {
                "objective": plan.objective,
                "objective_without_codecs": plain[name].objective if name in plain else None,
            }
            for name, plan in baselines(read).items()
        }
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
    for op, host in solution.placement.items():
        console.print(f"  {op}: {host}", markup=False)
