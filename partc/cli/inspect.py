"""partc inspect."""

from __future__ import annotations

from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds: strategies, plan, certificate, verdict, costs' provenance."""
    from partc.bundle.reader import Bundle
    from partc.report.plan_tables import print_plans
    from partc.report.tables import print_inspection

    manifest = Bundle.open(bundle).manifest
    if as_json:
        print_json(manifest.model_dump(mode="json", by_alias=True))
    else:
        console = people(to_stdout=True)
        print_inspection(console, manifest)
        print_plans(console, manifest)
