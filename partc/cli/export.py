"""partc export."""

from __future__ import annotations

from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json, quiet_option


@click.command("export")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--triton", type=click.Path(path_type=Path), metavar="DIR",
    help="Write a Triton model repository: a model for each segment, and an ensemble.",
)  # fmt: skip
@click.option(
    "--kserve", type=click.Path(path_type=Path), metavar="FILE",
    help="Write a KServe InferenceService that serves such a repository.",
)  # fmt: skip
@click.option(
    "--storage-uri", metavar="URI",
    help="Where KServe finds the repository, as s3://bucket/folder; needed with --kserve.",
)  # fmt: skip
@click.option("--host", metavar="NAME", help="Export the segments of this host alone.")
@json_option
@quiet_option
def command(
    bundle: Path,
    triton: Path | None,
    kserve: Path | None,
    storage_uri: str | None,
    host: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write BUNDLE in the format of another server, checked as that server would read it."""
    from partc.bundle.reader import Bundle
    from partc.errors import UsageError
    from partc.export.kserve import kserve_manifest, write_manifest
    from partc.export.triton import export_triton

    if triton is None and kserve is None:
        raise UsageError("say what to export: --triton DIR or --kserve FILE")
    if kserve is not None and storage_uri is None:
        raise UsageError("--kserve needs --storage-uri, from where the repository is fetched")
    opened = Bundle.open(bundle)
    console = people(quiet)
    made: dict[str, object] = {}
    manifest = None
    if kserve is not None:
        manifest = kserve_manifest(opened, storage_uri or "", host=host)
    if triton is not None:
        done = export_triton(opened, triton, host=host)
        made["triton"] = {
            "path": str(done.path),
            "models": list(done.models),
            "ensemble": done.ensemble,
            "notices": list(done.notices),
        }
        whole = f" and the ensemble {done.ensemble}" if done.ensemble else ""
        console.print(f"{triton}: {len(done.models)} models{whole}", markup=False)
        for notice in done.notices:
            console.print(f"Note: {notice}", markup=False)
    if kserve is not None and manifest is not None:
        write_manifest(kserve, manifest)
        made["kserve"] = {"path": str(kserve)}
        console.print(str(kserve), markup=False)
    if as_json:
        print_json(made)
