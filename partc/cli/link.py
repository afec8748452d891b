"""partc link."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partc.cli.console import json_option, people, print_json, progress_of, quiet_option
from partc.cli.credentials import credentials_option
from partc.cli.numbers import FiniteRange

if TYPE_CHECKING:
    from rich.console import Console

    from partc.agent.link import LinkFound, Way


@click.command("link")
@click.argument("host")
@click.option(
    "-t", "--topology", required=True, type=click.Path(path_type=Path),
    help="TOML file in which the host has an agent.",
)  # fmt: skip
@click.option(
    "--from", "sender", metavar="NAME",
    help="Measure from this host, through its agent; from this machine if not given.",
)  # fmt: skip
@click.option(
    "--budget", type=FiniteRange(0.5, 600), default=15.0, show_default=True,
    metavar="SECONDS", help="About how long to measure.",
)  # fmt: skip
@credentials_option
@json_option
@quiet_option
def command(
    host: str,
    topology: Path,
    sender: str | None,
    budget: float,
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the link to HOST: bandwidth each way, round trip, cost of a message, jitter.

    Messages of several sizes go to the host's agent and back over the runtime's own protocol, and
    bandwidth is the slope of their times. Prints the entry for the topology.
    """
    from partc.agent.link import topology_entry
    from partc.errors import UsageError
    from partc.ir.topology import Topology
    from partc.runtime.credentials import find_credentials

    described = Topology.load(topology)
    address = _agent(described, host)
    if sender == host:
        raise UsageError(f"a link has two ends; give --from another host than {host!r}")
    near = sender or described.first_host
    called = [address] if sender is None else [address, _agent(described, sender)]
    found = find_credentials(credentials, called)
    console = people(quiet)
    is_here = near == host  # requests arise there, and this machine is no host of the topology
    if is_here:
        near = "here"
    with progress_of(console) as progress:
        progress(f"measuring the link to {host}", None)
        if sender is None:
            from partc.agent.probing import link_to

            measured = link_to(address, found, budget)
        else:
            from partc.agent.probing import link_between

            measured = link_between(called[1], address, found, budget, sender)
    entry = None if is_here else topology_entry(measured, near, host)
    if as_json:
        print_json({"between": [near, host], **_json(measured), "topology": entry})
        return
    _show(people(quiet, to_stdout=True), measured, near, host, entry)


def _agent(topology: Any, host: str) -> str:
    from partc.errors import UsageError
    from partc.suggest import unknown_name

    if host not in topology.hosts:
        raise UsageError(unknown_name("host", host, topology.hosts))
    agent: str | None = topology.hosts[host].agent
    if agent is None:
        raise UsageError(
            f"host {host!r} has no agent; start one there with partc agent, and write agent = "
            '"HOST:PORT" in the topology'
        )
    return agent


def _json(found: LinkFound) -> dict[str, Any]:
    return asdict(found)


def _show(console: Console, found: LinkFound, near: str, host: str, entry: str | None) -> None:
    for one, other, way in ((near, host, found.up), (host, near, found.down)):
        console.print(f"{one} to {other}: {_bandwidth(way)}", markup=False, soft_wrap=True)
    console.print(
        f"round trip {found.rtt_s * 1e3:.3g} ms (jitter {found.jitter_s * 1e3:.2g} ms); "
        f"a message costs {found.fixed_s * 1e3:.3g} ms on top of half of it",
        markup=False,
        soft_wrap=True,
    )
    if entry is None:
        entry = (
            f"This machine is no host of the topology beside {host!r}; measure a link of it with "
            "--from HOST."
        )
    console.print(f"\n{entry}", markup=False, soft_wrap=True)


def _bandwidth(way: Way) -> str:
    sizes = f"{way.samples} messages of up to {way.largest_bytes / 1e6:.2g} MB"
    if way.mbit_s is None:
        return f"at least {way.at_least_mbit_s:.4g} Mbit/s, more than its ends can fill ({sizes})"
    return f"{way.mbit_s:.4g} Mbit/s ({sizes}, slopes within {100 * way.spread:.2g} %)"
