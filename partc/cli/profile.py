"""partc profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partc.cli.console import (
    json_option,
    parse_shapes,
    people,
    print_json,
    progress_of,
    quiet_option,
    read_arrays,
)


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="NAME", help="A target of `partc targets`.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--input", "sample", type=click.Path(path_type=Path), metavar="X.npz")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224")
@click.option("--fresh", is_flag=True, help="Measure even what the store has.")
@click.option("--no-store", is_flag=True, help="Measure everything anew and keep nothing.")
@json_option
@quiet_option
def command(
    model: Path,
    target: str,
    threads: int,
    sample: Path | None,
    shapes: tuple[str, ...],
    fresh: bool,
    no_store: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure MODEL block by block on this machine, and keep the costs for later compilations."""
    import partc
    from partc.measure.store import CostStore
    from partc.pipeline import Pipeline
    from partc.report.tables import print_profile

    console = people(quiet)
    topology = partc.Topology.parse({"hosts": {"here": {"target": target, "threads": threads}}})
    program = partc.load(
        model,
        shapes=parse_shapes(shapes),
        sample=read_arrays(sample, "--input") if sample else None,
    )
    pipeline = Pipeline.parse("infer-shapes,fold-constants,group-blocks,annotate-costs")
    pipeline = pipeline.with_option("annotate-costs", fresh=fresh)
    said: list[str] = []
    with progress_of(console) as progress:
        context = partc.Context(
            topology, store=None if no_store else CostStore(), progress=progress
        )
        program = pipeline.run(
            program,
            topology,
            context=context,
            observers=[lambda event: said.extend(event.result.diagnostics)],
        )
    data = _profile_json(program, target, threads, said)
    if as_json:
        print_json(data)
    else:
        print_profile(people(quiet, to_stdout=True), data)


def _profile_json(program: Any, target: str, threads: int, said: list[str]) -> dict[str, Any]:
    blocks = []
    for block in program.blocks:
        cost = program.costs.of(block.name, "here")
        blocks.append(
            {
                "name": block.name,
                "ops": list(block.ops),
                "types": [program.op_by_name[op].op_type for op in block.ops],
                "median_s": cost.median_s,
                "spread_s": cost.spread_s,
                "samples": cost.samples,
                "provenance": cost.provenance,
                "measured_at": cost.measured_at,
            }
        )
    return {
        "model": program.name,
        "target": target,
        "threads": threads,
        "whole_s": program.costs.whole_s["here"],
        "segment_fixed_s": program.costs.segment_fixed_s["here"],
        "blocks": blocks,
        "notices": [*program.notices, *said],
    }
