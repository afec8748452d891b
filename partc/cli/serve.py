"""partc serve."""

from __future__ import annotations

from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json, quiet_option
from partc.cli.credentials import credentials_option


@click.command("serve")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", required=True, metavar="NAME", help="Which host of the bundle this is.")
@click.option(
    "--listen", metavar="ADDRESS",
    help="host:port to listen on; the topology's address of this host if not given.",
)  # fmt: skip
@click.option(
    "--address", "addresses", multiple=True, metavar="NAME=HOST:PORT",
    help="Where a host listens that this one calls; may be repeated.",
)  # fmt: skip
@click.option(
    "--deadline", type=click.FloatRange(0, 86400, min_open=True), metavar="SECONDS",
    help="Longest wait for another host.",
)  # fmt: skip
@click.option(
    "--allow-remote", is_flag=True,
    help="Listen on an address other machines reach, without authentication: only on a network "
    "that you trust. With credentials it is not needed.",
)  # fmt: skip
@credentials_option
@json_option
@quiet_option
def command(
    bundle: Path,
    host: str,
    listen: str | None,
    addresses: tuple[str, ...],
    deadline: float | None,
    allow_remote: bool,
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Serve one host's segments of BUNDLE by the Open Inference Protocol over gRPC.

    Runs until Ctrl-C or SIGTERM. Any client of that protocol, tritonclient for one, can call a
    segment by its id.
    """
    from partc.bundle.reader import Bundle
    from partc.runtime.credentials import find_credentials
    from partc.runtime.server import parse_addresses, serve

    opened = Bundle.open(bundle)
    address = listen or opened.host(host).address or "127.0.0.1:0"
    console = people(quiet)

    def ready(at: str) -> None:
        if as_json:
            print_json({"host": host, "address": at, "ready": True})
        console.print(f"{host} serves {bundle} on {at}; Ctrl-C ends it")

    serve(
        opened,
        host,
        address,
        on_ready=ready,
        addresses=parse_addresses(list(addresses)),
        deadline_s=deadline,
        allow_remote=allow_remote,
        credentials=find_credentials(credentials, () if allow_remote else (address,)),
    )
    console.print(f"{host} stopped")
