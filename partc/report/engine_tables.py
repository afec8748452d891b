"""Which segments run as engines, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partc.bundle.manifest import Manifest
from partc.ir.engine import EngineEntry
from partc.report.names import visible
from partc.report.tables import plain_table, say
from partc.report.units import size


def print_engines(
    console: Console, manifest: Manifest, here: Mapping[tuple[str, str], str]
) -> None:
    """The engines of each host, and what this machine would do with them.

    Args:
        here: host and segment -> one sentence.
    """
    if not any(host.engines for host in manifest.hosts.values()):
        return
    console.print(engine_table(manifest))
    for name, host in manifest.hosts.items():
        reasons = dict.fromkeys(each.reason for each in host.engines.values() if each.reason)
        for reason in reasons:
            say(console, f"Engines of {name}: {visible(reason)}.")
        sentences = dict.fromkeys(here[name, each] for each in host.engines if (name, each) in here)
        for sentence in sentences:
            say(console, f"On this machine {name} would {visible(sentence)}.")


def engine_table(manifest: Manifest) -> Table:
    """One row for each engine that there is or will be."""
    table = plain_table("segment", "host", "engine", "precision", right=("size",))
    for name, host in manifest.hosts.items():
        for segment, entry in host.engines.items():
            for text, size_bytes in _files(entry):
                table.add_row(
                    Text(segment), Text(name), Text(text), entry.precision,
                    "" if size_bytes is None else size(size_bytes),
                )  # fmt: skip
    return table


def _files(entry: EngineEntry) -> list[tuple[str, int | None]]:
    if not entry.built:
        return [(f"{entry.recipe.flavour}, built on the host", None)]
    return [
        (
            f"{file.key.flavour} {visible(file.key.version)} for compute capability "
            f"{file.key.compute_capability}, {visible(file.key.platform)}",
            file.size_bytes,
        )
        for file in entry.built
    ]
