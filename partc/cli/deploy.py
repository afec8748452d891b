"""partc deploy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json, progress_of, quiet_option
from partc.cli.credentials import credentials_option


@click.command("deploy")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME",
    help="Only this host; may be repeated. All that have an agent if not given.",
)  # fmt: skip
@click.option(
    "--agent", "agents", multiple=True, metavar="NAME=HOST:PORT",
    help="Where a host's agent listens, instead of what the topology says; may be repeated.",
)  # fmt: skip
@credentials_option
@json_option
@quiet_option
def command(
    bundle: Path,
    hosts: tuple[str, ...],
    agents: tuple[str, ...],
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Send each host's part of BUNDLE to the agent on that host, which serves it from then on.

    All parts are sent, checked and loaded first; then every agent changes over, and requests that
    are under way are finished with the bundle that they began with.
    """
    from partc.agent.deploy import agents_of, deploy
    from partc.bundle.reader import Bundle
    from partc.runtime.credentials import find_credentials
    from partc.runtime.server import parse_addresses

    opened = Bundle.open(bundle)
    addresses = agents_of(opened, parse_addresses(list(agents)), hosts)
    found = find_credentials(credentials, addresses.values())
    console = people(quiet)
    with progress_of(console) as progress:
        done = deploy(opened, addresses, found, progress)
    if as_json:
        print_json({"bundle": str(bundle), "hosts": [asdict(each) for each in done]})
        return
    for each in done:
        size = f"{each.size_bytes / 2**20:.1f} MiB in {each.files} files"
        news = "served it already" if each.was_there else f"{each.sent_bytes / 2**20:.1f} MiB new"
        console.print(f"{each.host} at {each.address}: {size}, {news}", markup=False)
        for sentence in each.said:
            console.print(f"  {sentence}", markup=False)
