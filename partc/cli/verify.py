"""partc verify."""

from __future__ import annotations

from pathlib import Path

import click

from partc.cli.console import json_option, people, print_json, progress_of, quiet_option


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
@quiet_option
def command(bundle: Path, as_json: bool, quiet: bool) -> None:
    """Check every file of BUNDLE against its digest, and run its segments on the golden input.

    The outputs must be those of the whole model that were stored at compile time.
    """
    from partc.verification import verify_bundle

    console = people(quiet)
    with progress_of(console) as progress:
        progress("checking files, running segments", None)
        result = verify_bundle(bundle)
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "files": result.files,
                "verified": {
                    "max_abs_error": result.max_abs_error,
                    "max_rel_error": result.max_rel_error,
                    "loss": result.loss,
                    "by_reference": dict(result.by_reference),
                },
            }
        )
    else:
        console.print(
            f"{bundle}: {result.files} files intact; segments give the whole model's answers "
            f"(largest error {result.max_abs_error:.3g} absolute, {result.max_rel_error:.3g} "
            "relative)"
            + (f", of which codecs and precision lose {result.loss:.3g}" if result.loss else "")
        )
        for host, why in result.by_reference.items():
            console.print(
                f"Host {host} was checked by the reference implementation: {why}; verify the "
                "bundle there to check its own backend"
            )
