"""partc inspect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partc.cli.console import json_option, people, print_json

if TYPE_CHECKING:
    from partc.bundle.reader import Bundle
    from partc.runtime.engine_segments import Prospect


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
    prospects = list(_engines_here(opened))
    if as_json:
        data = manifest.model_dump(mode="json", by_alias=True)
        if prospects:
            data["engines_here"] = [_as_json(host, each) for host, each in prospects]
        print_json(data)
    else:
        console = people(to_stdout=True)
        print_inspection(console, manifest)
        print_plans(console, manifest)
        here = {(host, each.segment): each.sentence for host, each in prospects}
        print_engines(console, manifest, here)


def _engines_here(bundle: Bundle) -> Iterator[tuple[str, Prospect]]:
    """Each host, and what this machine would do for a segment if it were that host."""
    from partc.runtime.engine_segments import EngineSegments

    for host, entry in bundle.manifest.hosts.items():
        if entry.engines:
            for prospect in EngineSegments(bundle, host).prospects():
                yield host, prospect


def _as_json(host: str, prospect: Prospect) -> dict[str, Any]:
    gpu = prospect.gpu
    return {
        "host": host,
        "segment": prospect.segment,
        "would": prospect.sentence,
        "action": prospect.decision.action,
        "reason": prospect.decision.reason,
        "gpu": gpu.model_dump(mode="json") if gpu is not None else None,
        "fallback": {
            "provider": prospect.fallback.provider,
            "refused": {each.provider: each.reason for each in prospect.fallback.refusals},
        },
    }
