"""partc inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from partc.cli.console import json_option, people, print_json

if TYPE_CHECKING:
    from partc.bundle.reader import Bundle


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds: strategies, plan, certificate, verdict, costs' provenance."""
    from partc.bundle.reader import Bundle
    from partc.report.engine_tables import print_engines
    from partc.report.plan_tables import print_plans
    from partc.report.tables import print_inspection

    opened = Bundle.open(bundle)
    manifest = opened.manifest
    here = _engines_here(opened)
    if as_json:
        data = manifest.model_dump(mode="json", by_alias=True)
        if here:
            data["engines_here"] = [
                {"host": host, "segment": segment, "would": sentence}
                for (host, segment), sentence in here.items()
            ]
        print_json(data)
    else:
        console = people(to_stdout=True)
        print_inspection(console, manifest)
        print_plans(console, manifest)
        print_engines(console, manifest, here)


def _engines_here(bundle: Bundle) -> dict[tuple[str, str], str]:
    """Host and segment -> what this machine would do if it were that host."""
    from partc.runtime.engine_segments import EngineSegments

    return {
        (host, prospect.segment): prospect.sentence
        for host in bundle.manifest.hosts
        if bundle.manifest.hosts[host].engines
        for prospect in EngineSegments(bundle, host).prospects()
    }
