"""partc targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from partc.cli.console import json_option, people, print_json

if TYPE_CHECKING:
    from partc.targets.registry import Target


@click.command("targets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the targets, what is known of them and whether they work on this machine, or show NAME.

    NAME is a target of this list or the path of a target file.
    """
    from partc.report.target_tables import print_target, print_targets
    from partc.targets.registry import backend_names, load_target, preset_names

    rows = [_row(load_target(each)) for each in ([name] if name else preset_names())]
    if as_json:
        print_json({"targets": rows, "backends": list(backend_names())})
        return
    console = people(to_stdout=True)
    if name:
        print_target(console, rows[0])
    else:
        print_targets(console, rows)


def _row(target: Target) -> dict[str, Any]:
    from partc.targets.here import detect, why_other_hardware

    found = detect(target)
    elsewhere = why_other_hardware(target)
    if found.available and not elsewhere:
        costs = "measured"
    else:
        costs = "estimated" if target.hardware.has_rates else "none"
    return {
        "name": target.name,
        "backend": target.backend,
        "description": target.description,
        "optimization": target.optimization,
        "available": found.available,
        "reason": found.reason,
        "version": found.version,
        "fingerprint": found.fingerprint,
        "provider": target.provider,
        "provider_options": dict(target.provider_options),
        "costs": costs,
        "not_this_machine": elsewhere,
        "hardware": target.hardware.model_dump(mode="json"),
    }
