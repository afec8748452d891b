"""partc compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partc.cli.console import (
    calibration_option,
    json_option,
    parse_shapes,
    people,
    print_json,
    progress_of,
    quiet_option,
    read_arrays,
    read_calibration,
    verbose_option,
)
from partc.cli.constraints import constrained, constraint_options
from partc.cli.costs_from import costs_from_option, imports_of
from partc.cli.credentials import credentials_option
from partc.cli.numbers import FiniteRange


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-t", "--topology", required=True, type=click.Path(path_type=Path),
    help="TOML file of hosts and links.",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="Folder to write the bundle to.",
)  # fmt: skip
@click.option(
    "--objective", type=click.Choice(["latency", "throughput", "energy"]), default="latency",
    show_default=True, help="What the placement minimises.",
)  # fmt: skip
@click.option(
    "--pareto", metavar="ONE,OTHER",
    help="Show the trade-offs of two objectives too, as latency,energy.",
)  # fmt: skip
@click.option("--pipeline", metavar="TEXT", help="Passes to run, as name,name{option=value}.")
@click.option(
    "--input", "sample", type=click.Path(path_type=Path), metavar="X.npz",
    help="Sample input: binds dynamic dimensions, and answers are compared on it.",
)  # fmt: skip
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224",
    help="Shape to plan for where the model leaves dimensions open; may be repeated.",
)  # fmt: skip
@calibration_option
@constraint_options
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of drawn sample inputs.",
)
@click.option(
    "--costs", type=click.Choice(["any", "measured"]), default="any", show_default=True,
    help="`measured` refuses hosts whose costs would have to be estimated.",
)  # fmt: skip
@costs_from_option
@click.option(
    "--refine-budget", type=FiniteRange(min=0), metavar="SECONDS",
    help="Time for measuring the segments of plans that could win; 0 measures none.",
)  # fmt: skip
@credentials_option
@click.option("--no-store", is_flag=True, help="Measure everything anew and keep nothing.")
@click.option("--no-check", is_flag=True, help="Do not verify the program after every pass.")
@click.option("--time-passes", is_flag=True, help="Print the time of each pass.")
@click.option(
    "--dump-after", nargs=2, type=(str, click.Path(path_type=Path)), metavar="NAME DIR",
    help="Write the program as text to DIR after pass NAME (or `all`).",
)  # fmt: skip
@json_option
@quiet_option
@verbose_option
def command(
    model: Path,
    topology: Path,
    output: Path,
    objective: str,
    pareto: str | None,
    pipeline: str | None,
    sample: Path | None,
    shapes: tuple[str, ...],
    calibration: tuple[Path, ...],
    force: bool,
    seed: int,
    costs: str,
    costs_from: tuple[str, ...],
    refine_budget: float | None,
    credentials: Path | None,
    no_store: bool,
    no_check: bool,
    time_passes: bool,
    dump_after: tuple[str, Path] | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **constraints: Any,
) -> None:
    """Compile MODEL, an ONNX file, into a bundle for the hosts of a topology.

    Measures the model, finds the provably best placement, checks that the parts give the whole
    model's answers, and writes one folder with what every host needs, and a report.
    """
    import partc
    from partc.pipeline import Dump, Observer, Timing
    from partc.report.plan_tables import print_plans
    from partc.report.tables import print_compilation, print_timing

    console = people(quiet)
    timing = Timing()
    observers: list[Observer] = [timing]
    if dump_after is not None:
        observers.append(Dump(*dump_after))
    if verbose:
        observers.append(
            lambda event: console.print(
                f"{event.applied.name}: {'; '.join(event.result.diagnostics) or 'done'} "
                f"({event.duration_s:.2f} s)"
            )
        )
    described = constrained(partc.Topology.load(topology), constraints)
    with progress_of(console) as progress:
        bundle = partc.compile(
            model,
            described,
            output=output,
            objective=objective,
            pareto=_pair(pareto) if pareto is not None else None,
            pipeline=pipeline,
            shapes=parse_shapes(shapes),
            sample=read_arrays(sample, "--input") if sample else None,
            calibration=read_calibration(calibration),
            force=force,
            seed=seed,
            use_store=not no_store,
            check=not no_check,
            imports=imports_of(costs_from, described.hosts, model),
            costs="measured" if costs == "measured" else "any",
            refine_budget_s=refine_budget,
            credentials=credentials,
            progress=progress,
            observers=observers,
        )
    if time_passes:
        print_timing(console, timing.rows)
    if as_json:
        print_json(compilation_json(bundle))
    else:
        print_compilation(console, bundle.manifest)
        print_plans(console, bundle.manifest)
        console.print(f"Bundle: {output}   Report: {output / 'report.html'}")


def _pair(text: str) -> tuple[str, str]:
    from partc.passes.partition.pareto import pareto_objectives

    return pareto_objectives(text)


def compilation_json(bundle: Any) -> dict[str, Any]:
    """What ``partc compile --json`` promises, from the manifest."""
    from partc.report.facts import host_provenances

    manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
    certificate, verified = manifest["certificate"], manifest["verified"]
    return {
        "objective": certificate["objective"],
        "predicted_s": certificate["predicted_s"],
        "bound_s": certificate["bound_s"],
        "gap": certificate["gap"],
        "status": certificate["status"],
        "solver": certificate["solver"],
        "solve_s": certificate["solve_s"],
        "maximum_flow_s": certificate["maximum_flow_s"],
        "latency_s": certificate["latency_s"],
        "simulated_s": certificate["simulated_s"],
        "predicted_j": certificate["predicted_j"],
        "bound_j": certificate["bound_j"],
        "strategies": manifest["strategies"],
        "verdict": manifest["verdict"],
        "plan": {
            "segments": manifest["plan"]["segments"],
            "transfers": manifest["plan"]["transfers"],
        },
        "verified": {
            "max_abs_error": verified["max_abs_error"],
            "max_rel_error": verified["max_rel_error"],
            "loss": verified["loss"],
        },
        "pareto": manifest["pareto"],
        "portfolio": _portfolio_json(manifest["portfolio"]),
        "refinement": manifest["refinement"],
        "tiling": manifest["tiling"],
        "costs": host_provenances(bundle.manifest),
        "notices": manifest["notices"],
        "pipeline": manifest["pipeline"],
        "bundle": str(bundle.path),
    }


def _portfolio_json(portfolio: dict[str, Any] | None) -> dict[str, Any] | None:
    if portfolio is None:
        return None
    plans = [
        {
            "name": each["name"],
            "cost": each["cost"],
            "survives": each["survives"],
            "segments": each["plan"]["segments"],
            "transfers": each["plan"]["transfers"],
        }
        for each in portfolio["plans"]
    ]
    return {key: value for key, value in portfolio.items() if key != "map"} | {"plans": plans}
