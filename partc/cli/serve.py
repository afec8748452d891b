"""partc serve."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partc.cli.console import json_option, people, print_json, progress_of, quiet_option
from partc.cli.credentials import credentials_option
from partc.cli.numbers import FiniteRange

if TYPE_CHECKING:
    from rich.console import Console

    from partc.passes.contract import Progress

_LINE_EVERY_S = 30.0


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
    "--deadline", type=FiniteRange(0, 86400, min_open=True), metavar="SECONDS",
    help="Longest wait for another host.",
)  # fmt: skip
@click.option(
    "--allow-remote", is_flag=True,
    help="Listen on an address other machines reach, without authentication: only on a network "
    "that you trust. With credentials it is not needed.",
)  # fmt: skip
@click.option(
    "--allow-engine-code", is_flag=True,
    help="Run machine code that engines in BUNDLE carry, which those for several versions of "
    "TensorRT do: only where you trust who made BUNDLE as you trust who makes your programs. "
    "Without it such engines are built anew here.",
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
    allow_engine_code: bool,
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Serve one host's segments of BUNDLE by the Open Inference Protocol over gRPC.

    Runs until Ctrl-C or SIGTERM. Any client of that protocol, tritonclient for one, can call a
    segment by its id. Engines that are missing are built first, which takes minutes; `partc build`
    does so beforehand.
    """
    from partc.bundle.reader import Bundle
    from partc.runtime.credentials import find_credentials
    from partc.runtime.engine_segments import EngineTerms
    from partc.runtime.server import parse_addresses, serve

    opened = Bundle.open(bundle)
    address = listen or opened.host(host).address or "127.0.0.1:0"
    console = people(quiet)

    with contextlib.ExitStack() as loading:
        progress = loading.enter_context(_progress_of(console))

        def ready(at: str) -> None:
            loading.close()
            if as_json:
                print_json({"host": host, "address": at, "ready": True})
            console.print(f"{host} serves {bundle} on {at}; Ctrl-C ends it")

        with _log_on(console):
            serve(
                opened,
                host,
                address,
                on_ready=ready,
                addresses=parse_addresses(list(addresses)),
                deadline_s=deadline,
                allow_remote=allow_remote,
                credentials=find_credentials(credentials, () if allow_remote else (address,)),
                engines=EngineTerms(allow_code=allow_engine_code, progress=progress),
            )
    console.print(f"{host} stopped")


@contextlib.contextmanager
def _progress_of(console: Console) -> Iterator[Progress]:
    """On a terminal as elsewhere; in a log a line now and then, or minutes would be silent."""
    if console.quiet or console.is_terminal:
        with progress_of(console) as progress:
            yield progress
        return
    yield _Lines(console)


class _Lines:
    """What goes on, as lines: when something else begins, and every half minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._activity = ""
        self._said_s = 0.0

    def __call__(self, activity: str, fraction: float | None) -> None:
        now_s = time.monotonic()
        if activity == self._activity and now_s < self._said_s + _LINE_EVERY_S:
            return
        self._activity, self._said_s = activity, now_s
        share = f" {fraction:.0%}" if fraction else ""
        self._console.print(f"{activity}{share}", markup=False)


@contextlib.contextmanager
def _log_on(console: Console) -> Iterator[None]:
    """Show what the host says of itself; to the quiet, its warnings alone, as Python does."""
    from partc.runtime.server import show_log

    if console.quiet:
        yield
        return
    handler = _ConsoleHandler(console)
    show_log(handler)
    try:
        yield
    finally:
        logging.getLogger("partc").removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    """Lines of the log beside the progress that is shown."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        self._console.print(self.format(record), markup=False)
