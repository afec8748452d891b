"""partc run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from partc.report.answers import RunSummary
    from partc.runtime.device import Answer

from partc.cli.console import (
    json_option,
    people,
    print_json,
    progress_of,
    quiet_option,
    read_arrays,
    write_arrays,
)
from partc.cli.credentials import credentials_option
from partc.cli.numbers import FiniteRange


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--input", "input_path", type=click.Path(path_type=Path), metavar="X.npz",
    help="Arrays by input name; the bundle's golden input if not given.",
)  # fmt: skip
@click.option(
    "--output", "output_path", type=click.Path(path_type=Path), metavar="Y.npz",
    help="Write the outputs there.",
)  # fmt: skip
@click.option(
    "--local", is_flag=True,
    help="Start the other hosts here, joined by links emulated as the topology says.",
)  # fmt: skip
@click.option(
    "--pin/--no-pin", default=True, show_default=True,
    help="With --local, give each host cores of its own where there are enough.",
)  # fmt: skip
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True,
    help="Send the request this often; latencies are then of all of them.",
)  # fmt: skip
@click.option(
    "--address", "addresses", multiple=True, metavar="NAME=HOST:PORT",
    help="Where a host listens, instead of the topology's address; may be repeated.",
)  # fmt: skip
@click.option("--plan", metavar="NAME", help="Take this plan of the bundle's portfolio.")
@click.option(
    "--bandwidth-mbit-s", type=float,
    help="As it is now, to choose the plan by; with --local the links have it, too.",
)  # fmt: skip
@click.option("--device-slowdown", type=float, help="Against the declared speed, likewise.")
@click.option("--server-slowdown", type=float, help="Against the declared speed, likewise.")
@click.option(
    "--deadline", type=FiniteRange(0, 86400, min_open=True), metavar="SECONDS",
    help="Longest wait for another host.",
)  # fmt: skip
@click.option(
    "--fallback", type=click.Choice(["preload", "lazy", "none"]), default="preload",
    show_default=True, help="When to load what finishes a request if a host fails.",
)  # fmt: skip
@credentials_option
@json_option
@quiet_option
def command(
    bundle: Path,
    input_path: Path | None,
    output_path: Path | None,
    local: bool,
    pin: bool,
    repeat: int,
    addresses: tuple[str, ...],
    plan: str | None,
    bandwidth_mbit_s: float | None,
    device_slowdown: float | None,
    server_slowdown: float | None,
    deadline: float | None,
    fallback: Literal["preload", "lazy", "none"],
    credentials: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run BUNDLE on the host where requests start, the device.

    A host that cannot be reached or does not answer in time is not the end of a request: the
    device finishes it from what it still holds, and says so.
    """
    from partc.bundle.reader import Bundle
    from partc.errors import UsageError
    from partc.report.answers import print_answer, summarise_run
    from partc.runtime.credentials import find_credentials
    from partc.runtime.device import open_bundle
    from partc.runtime.local import LocalDeployment
    from partc.runtime.server import parse_addresses

    opened = Bundle.open(bundle)
    golden: dict[str, Any] | None = None
    if input_path is None:
        feeds, golden = opened.golden()
    else:
        feeds = read_arrays(input_path, "--input")
    console = people(quiet)
    with ExitStack() as stack:
        progress = stack.enter_context(progress_of(console))
        progress("starting", None)
        if local:
            if addresses:
                raise UsageError("--local chooses the addresses itself; leave --address out")
            if credentials is not None:
                raise UsageError("--local stays on this machine; leave --credentials out")
            local_hosts = LocalDeployment(
                bundle,
                bandwidth_mbit_s=bandwidth_mbit_s,
                pin=pin,
                deadline_s=deadline,
                fallback=fallback,
            )
            deployment = stack.enter_context(local_hosts).deployment
        else:
            given = parse_addresses(list(addresses))
            called = {name: host.address for name, host in opened.manifest.hosts.items()} | given
            deployment = stack.enter_context(
                open_bundle(
                    bundle,
                    addresses=given,
                    deadline_s=deadline,
                    fallback=fallback,
                    credentials=find_credentials(credentials, filter(None, called.values())),
                )
            )
        observed = {
            "bandwidth_mbit_s": bandwidth_mbit_s,
            "device_slowdown": device_slowdown,
            "server_slowdown": server_slowdown,
        }
        if local and len(deployment.plans) == 1:
            del observed["bandwidth_mbit_s"]  # The link has it; there is nothing to choose.
        if any(value is not None for value in observed.values()):
            deployment.observe(**{k: v for k, v in observed.items() if v is not None})
        answers = []
        for number in range(repeat):
            answers.append(deployment.request(feeds, plan))
            progress(f"request {number + 1} of {repeat}", (number + 1) / repeat)
    if output_path is not None:
        write_arrays(output_path, answers[-1].outputs)
    if as_json:
        summary = summarise_run(opened.manifest, answers, golden)
        print_json(_run_json(summary, answers, output_path))
    else:
        print_answer(console, opened.manifest, answers, golden)


def _run_json(summary: RunSummary, answers: list[Answer], output_path: Path | None) -> Any:
    last = answers[-1]
    return {
        "latency_s": summary.latency_s,
        "latencies_s": [answer.latency_s for answer in answers],
        "predicted_s": summary.predicted_s,
        "rows": [vars(row) for row in summary.rows],
        "segments": [
            {"id": s.segment, "host": s.host, "measured_s": s.seconds} for s in last.segments
        ],
        "bytes_sent": last.sent_bytes,
        "plan": last.plan,
        "difference": summary.difference,
        "finished_locally": any(answer.finished_locally for answer in answers),
        "failures": [failure for answer in answers for failure in answer.failures],
        "avoided": list(dict.fromkeys(note for answer in answers for note in answer.avoided)),
        "outputs": {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in last.outputs.items()
        },
        "output": str(output_path) if output_path else None,
    }
