"""partc profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from partc.cli.credentials import credentials_option

if TYPE_CHECKING:
    from partc.ir.topology import Host


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="A target of `partc targets`, on this machine.")
@click.option(
    "--threads", type=click.IntRange(min=1),
    help="Of a segment's execution; 1, or what the topology says, if not given.",
)  # fmt: skip
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
@click.option("--fresh", is_flag=True, help="Measure even what the store has.")
@click.option("--no-store", is_flag=True, help="Measure everything anew and keep nothing.")
@json_option
@quiet_option
def command(
    model: Path,
    target: str | None,
    threads: int | None,
    host: str | None,
    topology_path: Path | None,
    credentials: Path | None,
    sample: Path | None,
    shapes: tuple[str, ...],
    fresh: bool,
    no_store: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure MODEL block by block, and keep the costs for later compilations.

    Give --target to measure on this machine, or --host and --topology to measure on a host.
    """
    import partc
    from partc.api import meters_of
    from partc.measure.store import CostStore
    from partc.pipeline import Pipeline
    from partc.report.tables import print_profile

    console = people(quiet)
    name, described = _measured_host(target, threads, host, topology_path)
    topology = partc.Topology(hosts={name: described})
    program = partc.load(
        model,
        shapes=parse_shapes(shapes),
        sample=read_arrays(sample, "--input") if sample else None,
    )
    pipeline = Pipeline.parse("infer-shapes,fold-constants,group-blocks,annotate-costs")
    pipeline = pipeline.with_option("annotate-costs", fresh=fresh)
    said: list[str] = []
    with progress_of(console) as progress, meters_of(topology, credentials) as (meters, notices):
        said += notices
        context = partc.Context(
            topology,
            store=None if no_store else CostStore(),
            progress=progress,
            meters=meters,
        )
        program = pipeline.run(
            program,
            topology,
            context=context,
            observers=[lambda event: said.extend(event.result.diagnostics)],
        )
    data = _profile_json(program, name, described, said)
    if as_json:
        print_json(data)
    else:
        print_profile(people(quiet, to_stdout=True), data)


def _measured_host(
    target: str | None, threads: int | None, name: str | None, path: Path | None
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
        return "here", Host(target=target, threads=threads or 1)
    if target is not None:
        raise UsageError("--host has a target in the topology; leave --target out")
    if path is None:
        raise UsageError("--host needs --topology, the file that describes it")
    hosts = Topology.load(path).hosts
    if name not in hosts:
        raise UsageError(unknown_name("host", name, hosts))
    if threads is None:
        return name, hosts[name]
    return name, hosts[name].model_copy(update={"threads": threads})


def _profile_json(program: Any, name: str, host: Host, said: list[str]) -> dict[str, Any]:
    blocks = []
    for block in program.blocks:
        cost = program.costs.of(block.name, name)
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
        "host": None if name == "here" else name,
        "target": host.target,
        "threads": host.threads,
        "whole_s": program.costs.whole_s[name],
        "segment_fixed_s": program.costs.segment_fixed_s[name],
        "blocks": blocks,
        "notices": [*program.notices, *said],
    }
