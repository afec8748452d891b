"""partc profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from partc.cli.costs_from import costs_from_option, imports_of
from partc.cli.credentials import credentials_option
from partc.cli.numbers import FiniteRange

if TYPE_CHECKING:
    from partc.imports.attribution import Attribution
    from partc.ir.cost import Cost
    from partc.ir.engine import Precision
    from partc.ir.program import Program
    from partc.ir.topology import Host

_INGEST = "infer-shapes,fold-constants,group-blocks"


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="A target of `partc targets`, on this machine.")
@click.option(
    "--threads", type=click.IntRange(min=1, max=1024),
    help="Of a segment's execution; 1, or what the topology says, if not given.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    help="In which the model is measured; fp32, or what the topology says, if not given.",
)  # fmt: skip
@calibration_option
@click.option(
    "--host", metavar="NAME",
    help="Measure on this host of a topology instead, through its agent if it has one.",
)  # fmt: skip
@click.option(
    "-t", "--topology", "topology_path", type=click.Path(path_type=Path),
    help="TOML file that describes the host.",
)  # fmt: skip
@credentials_option
@click.option("--input", "sample", type=click.Path(path_type=Path), metavar="X.npz")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224")
@click.option("--repeats", type=click.IntRange(min=3), metavar="RUNS",
              help="Most runs of the model; fewer do when the median is known well.")  # fmt: skip
@click.option("--budget", type=FiniteRange(min=0, max=86400), metavar="SECONDS",
              help="Time for these runs.")  # fmt: skip
@costs_from_option
@click.option("--fresh", is_flag=True, help="Measure even what the store has.")
@click.option("--no-store", is_flag=True, help="Measure everything anew and keep nothing.")
@json_option
@quiet_option
def command(
    model: Path,
    target: str | None,
    threads: int | None,
    precision: Precision | None,
    calibration: tuple[Path, ...],
    host: str | None,
    topology_path: Path | None,
    credentials: Path | None,
    sample: Path | None,
    shapes: tuple[str, ...],
    repeats: int | None,
    budget: float | None,
    costs_from: tuple[str, ...],
    fresh: bool,
    no_store: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure MODEL block by block, and keep the costs for later compilations.

    Give --target to measure on this machine, or --host and --topology to measure on a host. Runs
    go on until the median is known within 2 %, or --repeats or --budget are used up.
    """
    import partc
    from partc.api import meters_of
    from partc.errors import UsageError
    from partc.measure.store import CostStore
    from partc.pipeline import Pipeline
    from partc.report.tables import print_profile

    console = people(quiet)
    name, described = _measured_host(target, threads, precision, host, topology_path)
    topology = partc.Topology(hosts={name: described})
    program = partc.load(
        model,
        shapes=parse_shapes(shapes),
        sample=read_arrays(sample, "--input") if sample else None,
    )
    imports = imports_of(costs_from, topology.hosts, model)
    imported = imports.get(name)
    if imported and precision is not None:
        raise UsageError(
            "a profile that was taken elsewhere is of the precision it was taken in; give "
            "--precision without --costs-from"
        )
    pipeline = Pipeline.parse(_INGEST if imported else f"{_INGEST},annotate-costs")
    if not imported:
        given = {"fresh": fresh, "repeats": repeats, "budget_s": budget}
        options = {option: value for option, value in given.items() if value is not None}
        pipeline = pipeline.with_option("annotate-costs", **options)
    said: list[str] = []
    with progress_of(console) as progress, meters_of(topology, credentials) as (meters, notices):
        said += notices
        context = partc.Context(
            topology,
            store=None if no_store else CostStore(),
            progress=progress,
            meters=meters,
            imports=imports,
            calibration=tuple(read_calibration(calibration)),
        )
        program = pipeline.run(
            program,
            topology,
            context=context,
            observers=[lambda event: said.extend(event.result.diagnostics)],
        )
    if imported:
        from partc.imports.attribution import attribute

        data = _imported_json(program, name, described, attribute(imported, program), said)
    else:
        data = _measured_json(program, name, described, said)
    if as_json:
        print_json(data)
    else:
        print_profile(people(quiet, to_stdout=True), data)


def _measured_host(
    target: str | None,
    threads: int | None,
    precision: Precision | None,
    name: str | None,
    path: Path | None,
) -> tuple[str, Host]:
    """What is to be measured: a host of a topology, or this machine."""
    from partc.errors import UsageError
    from partc.ir.topology import Host, Topology
    from partc.suggest import unknown_name

    if name is None:
        if target is None:
            raise UsageError("give --target NAME, or --host NAME with --topology FILE")
        if path is not None:
            raise UsageError("--topology goes with --host; name the host to measure on")
        return "here", Host(target=target, threads=threads or 1, precision=precision or "fp32")
    if target is not None:
        raise UsageError("--host has a target in the topology; leave --target out")
    if path is None:
        raise UsageError("--host needs --topology, the file that describes it")
    hosts = Topology.load(path).hosts
    if name not in hosts:
        raise UsageError(unknown_name("host", name, hosts))
    given = {"threads": threads, "precision": precision}
    changes = {key: value for key, value in given.items() if value is not None}
    return name, hosts[name].model_copy(update=changes)


def _measured_json(program: Program, name: str, host: Host, said: list[str]) -> dict[str, Any]:
    assert program.costs is not None
    blocks = program.blocks or ()
    costs = {block.name: program.costs.of(block.name, name) for block in blocks}
    return {
        **_common_json(program, name, host, costs),
        "precision": program.costs.precisions[name] or None,
        "whole_s": program.costs.whole_s[name],
        "segment_fixed_s": program.costs.segment_fixed_s[name],
        "unattributed": [],
        "notices": list(dict.fromkeys((*program.notices, *said))),
    }


def _imported_json(
    program: Program, name: str, host: Host, found: Attribution, said: list[str]
) -> dict[str, Any]:
    return {
        **_common_json(program, name, host, found.costs),
        "precision": None,
        "whole_s": found.whole.median_s,
        "segment_fixed_s": None,
        "unattributed": [vars(each) for each in found.unattributed],
        "notices": list(dict.fromkeys((*program.notices, *said, *found.notices))),
    }


def _common_json(
    program: Program, name: str, host: Host, costs: Mapping[str, Cost]
) -> dict[str, Any]:
    blocks = [
        {
            "name": block.name,
            "ops": list(block.ops),
            "types": [program.op_by_name[op].op_type for op in block.ops],
            **vars(costs[block.name]),
        }
        for block in program.blocks or ()
    ]
    return {
        "model": program.name,
        "host": None if name == "here" else name,
        "target": host.target,
        "threads": host.threads,
        "settled": all(cost.settled for cost in costs.values()),
        "blocks": blocks,
    }
