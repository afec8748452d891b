"""partc passes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_type_hints

import click

from partc.cli.console import json_option, people, print_json


@click.command("passes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List all passes with their options, or show NAME."""
    from partc.errors import UsageError
    from partc.pipeline import DEFAULT_PIPELINE, registered_passes
    from partc.suggest import unknown_name

    passes = registered_passes()
    if name is not None and name not in passes:
        raise UsageError(unknown_name("pass", name, passes))
    shown = {key: _described(kind) for key, kind in passes.items() if name in (None, key)}
    if as_json:
        print_json({"default_pipeline": DEFAULT_PIPELINE, "passes": shown})
        return
    console = people(to_stdout=True)
    for key, entry in shown.items():
        console.print(f"[bold]{key}[/]  ({entry['kind']})  {entry['summary']}")
        for option in entry["options"]:
            console.print(
                f"    {option['name']}: {option['type']} = {option['default']}", markup=False
            )
        if name is not None:
            console.print(f"\n{entry['doc']}\n", markup=False)
            console.print(f"requires: {', '.join(entry['requires']) or '-'}")
            console.print(f"ensures:  {', '.join(entry['ensures']) or '-'}")
    if name is None:
        console.print(f"\nDefault pipeline: {DEFAULT_PIPELINE}", markup=False)


def _described(kind: type[Any]) -> dict[str, Any]:
    doc = inspect.getdoc(kind) or ""
    hints = get_type_hints(kind)
    return {
        "kind": kind.kind,
        "summary": doc.splitlines()[0] if doc else "",
        "doc": doc,
        "requires": list(kind.requires),
        "ensures": list(kind.ensures),
        "options": [
            {
                "name": field.name,
                "type": getattr(hints[field.name], "__name__", str(hints[field.name])),
                "default": field.default,
            }
            for field in dataclasses.fields(kind)
        ],
    }
