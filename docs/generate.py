"""Writes the pages of docs/ that follow from the code: ``make docs``.

A test checks that what is committed is what this gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parent


def pages() -> dict[str, str]:
    """File name -> text."""
    from partc.bundle.manifest import Manifest
    from partc.ir.topology import Topology
    from partc.measure.exchange import CostFile
    from partc.optimizer.horizontal.schema import horizontal_schema
    from partc.optimizer.schema import schema_text

    return {
        "problem.schema.json": schema_text(),
        "horizontal_problem.schema.json": _text(horizontal_schema()),
        "manifest.schema.json": _text(Manifest.model_json_schema(mode="validation")),
        "topology.schema.json": _text(Topology.model_json_schema(mode="validation")),
        "costs.schema.json": _text(CostFile.model_json_schema(mode="validation")),
        "commands.md": _commands(),
    }


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _commands() -> str:
    from partc.cli.main import partc

    lines = [
        "# Commands",
        "",
        "What `partc COMMAND --help` prints; written by `make docs`.",
        "",
        "With `--json`, standard output is one JSON object and nothing else; everything for people",
        "goes to standard error. Exit codes: 0 done, 1 failed with a sentence, 2 wrong usage,",
        "130 interrupted.",
    ]
    with click.Context(partc, info_name="partc") as context:
        for name in partc.list_commands(context):
            command = partc.get_command(context, name)
            assert command is not None
            lines += _help(command, f"partc {name}")
    return "\n".join(lines) + "\n"


def _help(command: click.Command, path: str) -> list[str]:
    """A command's page, and those of the commands within it."""
    with click.Context(command, info_name=path, terminal_width=96, max_content_width=96) as context:
        lines = ["", f"## {path}", "", "```", command.get_help(context).rstrip(), "```"]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            lines += _help(inner, f"{path} {name}")
    return lines


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
