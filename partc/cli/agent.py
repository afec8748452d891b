"""partc agent."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partc.cli.console import json_option, people, print_json, quiet_option
from partc.cli.credentials import credentials_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from partc.agent.daemon import AgentOptions
    from partc.agent.messages import NodeDescription

DEFAULT_ADDRESS = "127.0.0.1:8600"


@click.command("agent")
@click.option(
    "--listen", metavar="ADDRESS", default=DEFAULT_ADDRESS, show_default=True,
    help="host:port to listen on. Any address that other machines reach needs credentials.",
)  # fmt: skip
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where the agent keeps bundles and models; one agent each. The user's state folder if "
    "not given.",
)  # fmt: skip
@click.option(
    "--measure-while-serving", is_flag=True,
    help="Measure even while requests are served; times are then of a busy machine.",
)  # fmt: skip
@click.option(
    "--largest-bundle-mib", type=click.IntRange(1, 1 << 24), default=16384, show_default=True,
    help="Refuse larger parts of bundles.",
)  # fmt: skip
@click.option(
    "--allow-engine-code", is_flag=True,
    help="Run machine code that engines in bundles carry, as `partc serve` does with this option: "
    "only where you trust who deploys here as you trust who makes your programs.",
)  # fmt: skip
@click.option(
    "--init", is_flag=True,
    help="Make credentials instead: an authority, certificates by it, and a token.",
)  # fmt: skip
@click.option(
    "--name", "names", multiple=True, metavar="NAME",
    help="With --init: a host name or number under which this machine is called; may be repeated. "
    "Its own name if not given.",
)  # fmt: skip
@click.option(
    "--authority", type=click.Path(path_type=Path), metavar="FOLDER",
    help="With --init: credentials whose authority and token to use, for one more machine.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, 3650), default=825, show_default=True,
    help="With --init: how long the certificates hold.",
)  # fmt: skip
@click.option(
    "--ask", metavar="ADDRESS", help="Describe the node of the agent at this address instead.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="With --init: replace credentials that are there.")
@click.option("--exit-with-input", is_flag=True, hidden=True)
@credentials_option
@json_option
@quiet_option
def command(
    listen: str,
    state: Path | None,
    measure_while_serving: bool,
    largest_bundle_mib: int,
    allow_engine_code: bool,
    init: bool,
    names: tuple[str, ...],
    authority: Path | None,
    days: int,
    ask: str | None,
    force: bool,
    exit_with_input: bool,
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Let others measure on this node, send it its part of bundles, and call what it serves.

    Runs until Ctrl-C or SIGTERM, and serves again what it served when it is started again.
    """
    from partc.errors import UsageError

    console = people(quiet)
    if init:
        _init(credentials, names, authority, days, force, as_json, console)
        return
    if ask is not None:
        _ask(ask, credentials, as_json)
        return
    if names or authority or force:
        raise UsageError("--name, --authority and --force go with --init")
    from partc.agent.daemon import AgentOptions

    options = AgentOptions(
        while_serving=measure_while_serving,
        largest_bundle_bytes=largest_bundle_mib << 20,
        allow_engine_code=allow_engine_code,
    )
    _run(listen, state, options, exit_with_input, credentials, as_json, console)


def _init(
    given: Path | None,
    names: tuple[str, ...],
    authority: Path | None,
    days: int,
    force: bool,
    as_json: bool,
    console: Console,
) -> None:
    from partc.agent.authority import make_credentials
    from partc.runtime.credentials import default_folder

    folder = given.expanduser() if given is not None else default_folder()
    known = make_credentials(folder, names, by=authority, days=days, force=force)
    if as_json:
        print_json({"credentials": str(folder), "names": list(known), "days": days})
        return
    say = console.print
    say(f"Credentials for {', '.join(known)} are in {folder}, valid for {days} days.", markup=False)
    say("  server.pem, server.key, ca.pem, token   a node needs these to run partc agent")
    say("  client.pem, client.key, ca.pem, token   a machine that calls nodes needs these")
    if authority is None:
        say("  ca.key                                  stays here: who has it can make more")
        say(
            "For each further machine make a folder with\n"
            f"  partc agent --init --authority {folder} --credentials OTHER --name ITS-NAME\n"
            f"and copy OTHER to {default_folder()} there, or name it with --credentials.",
            markup=False,
        )
    else:
        say(
            f"Copy {folder} to the other machine, as {default_folder()}, or name it there with "
            "--credentials.",
            markup=False,
        )


def _ask(address: str, given: Path | None, as_json: bool) -> None:
    from partc.agent.wire.client import AgentClient
    from partc.errors import UsageError
    from partc.ir.address import checked_address
    from partc.runtime.credentials import find_credentials

    try:
        checked_address(address)
    except ValueError as error:
        raise UsageError(f"--ask: {error}") from error
    with AgentClient(address, find_credentials(given, (address,))) as client:
        node = client.describe()
    if as_json:
        print_json(node.model_dump())
        return
    for name, text in _described(node):
        people(to_stdout=True).print(f"{name:<12}{text}", markup=False, soft_wrap=True)


def _described(node: NodeDescription) -> Iterator[tuple[str, str]]:
    """What people want to know of a node, line by line; its words are those of somebody else."""
    from partc.agent.messages import printable

    def clock(current: float | None, highest: float | None) -> str:
        known = [f"{value:.0f}" for value in (current, highest) if value is not None]
        return f", {' of '.join(known)} MHz" if known else ""

    yield "node", printable(f"{node.hostname}, {node.system}, partc {node.partc_version}")
    if node.board:
        yield "board", printable(node.board)
    processor = node.processor
    clocks = clock(processor.current_mhz, processor.highest_mhz)
    governor = f", governor {processor.governor}" if processor.governor else ""
    cores = f"{processor.usable} of {processor.cores} cores"
    yield "processor", printable(f"{processor.name}, {cores}{clocks}{governor}")
    free, total = node.memory_available_bytes / 2**30, node.memory_bytes / 2**30
    yield "memory", f"{free:.1f} of {total:.1f} GiB free"
    for gpu in node.gpus:
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        yield "GPU", printable(f"{gpu.name}{driver}{clock(gpu.current_mhz, gpu.highest_mhz)}")
    if node.power_mode:
        yield "power mode", printable(node.power_mode)
    if node.temperatures_c:
        sensor, hottest = max(node.temperatures_c.items(), key=lambda item: item[1])
        yield "temperature", f"{hottest:.0f} °C ({printable(sensor, 40)})"
    for state in node.backends:
        told = f"{state.name} {state.version}" if state.available else f"not {state.name}: "
        yield "backend", printable(told if state.available else told + state.reason)
    serving = node.serving
    yield "serves", printable(f"{serving.model} as {serving.host}") if serving else "nothing"
    yield "measures", printable(node.measuring) or "nothing"


def _run(
    listen: str,
    state: Path | None,
    options: AgentOptions,
    exit_with_input: bool,
    credentials: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    from partc.agent.daemon import Agent, default_folder
    from partc.runtime.allocator import keep_large_blocks
    from partc.runtime.credentials import find_credentials
    from partc.runtime.server import set_by_signals, stop_after_input

    keep_large_blocks()
    stopping = threading.Event()
    if exit_with_input:
        threading.Thread(target=stop_after_input, args=(stopping,), daemon=True).start()
    found = find_credentials(credentials, (listen,))
    with (
        set_by_signals(stopping),
        Agent(listen, state or default_folder(), found, options) as agent,
    ):
        node = agent.describe()
        if agent.notice:
            console.print(agent.notice, markup=False)
        if as_json:
            print_json({"address": agent.address, "ready": True, "node": node.model_dump()})
        names = ", ".join(state.name for state in node.backends if state.available)
        serving = f"serves {node.serving.model} as {node.serving.host}" if node.serving else ""
        console.print(
            f"agent on {agent.address}: {node.processor.name}, {node.processor.usable} cores, "
            f"{names}{'; ' if serving else ''}{serving}; Ctrl-C ends it",
            markup=False,
        )
        stopping.wait()
    console.print("agent stopped")
