"""The option by which commands are told who they are to other machines."""

from __future__ import annotations

from pathlib import Path

import click

credentials_option = click.option(
    "--credentials", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Certificates and token, as `partc agent --init` makes them; else those of "
    "$PARTC_CREDENTIALS, and for other machines than this one those of the user's configuration. "
    "`none` for open connections.",
)  # fmt: skip
