"""partc build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partc.cli.console import json_option, people, print_json, progress_of, quiet_option


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", required=True, metavar="NAME", help="Which host of the bundle this is.")
@click.option(
    "--segment", "segments", multiple=True, metavar="ID",
    help="Build this segment alone; may be repeated.",
)  # fmt: skip
@click.option(
    "--store", type=click.Path(path_type=Path), metavar="DIR",
    help="Where engines are kept; $PARTC_ENGINES or the user's cache folder if not given.",
)  # fmt: skip
@click.option("--anew", is_flag=True, help="Build even what has an engine that fits.")
@json_option
@quiet_option
def command(
    bundle: Path,
    host: str,
    segments: tuple[str, ...],
    store: Path | None,
    anew: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build the engines of one host of BUNDLE, on the machine that is that host.

    Engines are bound to GPU, platform and version, so they are built where they run. `partc serve`
    takes what was built; without it, serve builds first, which takes minutes.
    """
    from partc.bundle.engine_store import EngineStore
    from partc.bundle.engines import Candidate
    from partc.bundle.reader import Bundle
    from partc.errors import PartcError, TargetError, UsageError
    from partc.runtime.engine_segments import EngineSegments, EngineTerms, build_all
    from partc.suggest import unknown_name

    opened = Bundle.open(bundle)
    known = list(opened.host(host).engines)
    console = people(quiet)
    for name in segments:
        if name not in known:
            raise UsageError(
                f"host {host!r}: {unknown_name('segment with an engine', name, known)}"
            )
    built: dict[str, Any] = {}
    failed: dict[str, str] = {}

    def said(name: str, outcome: Candidate | PartcError) -> None:
        if isinstance(outcome, PartcError):
            failed[name] = str(outcome)
            console.print(f"{name}: {outcome}", markup=False)
            return
        built[name] = {"path": str(outcome.path), **outcome.file.key.model_dump(mode="json")}
        console.print(f"{name}: {outcome.path}", markup=False)

    with progress_of(console) as progress:
        terms = EngineTerms(progress=progress)
        engines = EngineSegments(opened, host, store=EngineStore(store), terms=terms)
        build_all(engines, list(segments) or known, anew=anew, said=said)
    if as_json:
        print_json({"host": host, "built": built, "failed": failed})
    if not known:
        console.print(f"host {host} runs no engines; there is nothing to build")
    if failed:
        raise TargetError(f"{len(failed)} of {len(built) + len(failed)} engines were not built")
