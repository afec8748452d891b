"""partc targets."""

from __future__ import annotations

import click

from partc.cli.console import json_option, people, print_json


@click.command("targets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the targets and whether they work on this machine, or show NAME."""
    from partc.targets.registry import backend_names, load_backend, load_target, preset_names

    names = [name] if name is not None else preset_names()
    rows = []
    for each in names:
        target = load_target(each)
        found = load_backend(target.backend).detect()
        rows.append(
            {
                "name": target.name,
                "backend": target.backend,
                "description": target.description,
                "optimization": target.optimization,
                "available": found.available,
                "reason": found.reason,
                "version": found.version,
                "fingerprint": found.fingerprint,
            }
        )
    if as_json:
        print_json({"targets": rows, "backends": list(backend_names())})
        return
    console = people(to_stdout=True)
    for row in rows:
        state = f"works here ({row['version']})" if row["available"] else row["reason"]
        console.print(f"[bold]{row['name']}[/]  {row['description']}: {state}")
        if name is not None:
            for key in ("backend", "optimization", "fingerprint"):
                console.print(f"  {key}: {row[key]}", markup=False)
