"""partc completion."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes partc's words in SHELL.

    For bash, put `eval "$(partc completion bash)"` into ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    from partc.cli.main import partc

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(partc, {}, "partc", "_PARTC_COMPLETE").source())
