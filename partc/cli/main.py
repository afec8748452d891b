"""The command line. Commands are loaded when they are called, so that ``--help`` is quick."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

import click

from partc import __version__

_INTERRUPTED = "partc: interrupted; nothing half-written was left behind"
_AGAIN_S = 10.0
_BY_A_SHELL = 128  # what a shell adds to the number of the signal that ended a program

# Name -> module and the line that --help shows, so that --help imports no command.
_COMMANDS = {
    "compile": ("compile", "Compile an ONNX model into a bundle for the hosts of a topology."),
    "build": ("build", "Build the engines of one host of a bundle, on that host."),
    "run": ("run", "Run a bundle on the host where requests start."),
    "serve": ("serve", "Serve one host's segments of a bundle."),
    "deploy": ("deploy", "Send each host's part of a bundle to its agent."),
    "agent": ("agent", "Let others measure on this node, and send it bundles to serve."),
    "link": ("link", "Measure the link to a host's agent."),
    "verify": ("verify", "Check a bundle: digests, and answers against the whole model."),
    "export": ("export", "Write a bundle in the format of another server."),
    "inspect": ("inspect", "Show what a bundle holds and what was proven of it."),
    "profile": ("profile", "Measure a model on a target of this machine."),
    "costs": ("costs", "List, share and forget measured costs."),
    "solve": ("solve", "Solve a placement problem given as JSON."),
    "targets": ("targets", "List targets, or show one."),
    "passes": ("passes", "List passes with their options, or show one."),
    "completion": ("completion", "Print the script that completes partc's words in a shell."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"partc.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but with the closest name when there is no such command."""
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            from partc.suggest import unknown_name

            ctx.fail(unknown_name("command", args[0], _COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="partc")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def partc(ctx: click.Context, debug: bool) -> None:
    """Place a neural network on a device and the servers near it.

    Compile a model for a topology of hosts and links, then serve the bundle on each server and
    run it on the device. `partc COMMAND --help` tells more of each command.
    """
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Run, and end with 0 (done), 1 (failed, with a sentence), 2 (wrong usage) or 130 (Ctrl-C).

    SIGTERM is heeded as Ctrl-C is, and ends with 143: what was begun is cleaned up.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    code = run(arguments)
    if _Interrupts.came:
        # All is cleaned up; a library's thread that still waits for what was interrupted is not
        # waited for.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


class _Interrupts:
    """Which signal came, if one did, and whether there is work that must be cleaned up after.

    Libraries that are just being imported swallow an interrupt, make it an error of their own, or
    crash on it; before there is work, ending at once is safe and loses nothing.
    """

    came = 0
    working = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _Interrupts.working:
        os.write(2, f"{_INTERRUPTED}\n".encode())
        os._exit(_BY_A_SHELL + number)
    _Interrupts.came = number
    signal.signal(signal.SIGALRM, _again)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    raise KeyboardInterrupt


def _again(number: int, frame: FrameType | None) -> None:
    """A library that swallowed the interrupt may wait for what it has thrown away with it."""
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    raise KeyboardInterrupt


def run(arguments: list[str] | None = None) -> int:
    """As `main`, but give the exit code back."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    as_json = "--json" in given
    words = [word for word in given if word != "--debug"]  # it may stand anywhere
    try:
        result: Any = partc.main(args=words, prog_name="partc", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.ClickException as error:
        if _Interrupts.came:
            return _interrupted()
        error.show()
        return _failed(error.format_message(), error.exit_code, as_json)
    except BrokenPipeError:
        if _Interrupts.came:
            return _interrupted()
        sys.stderr.close()
        return 1
    except Exception as error:
        return _interrupted() if _Interrupts.came else _explain(error, debug, as_json)


def raise_if_interrupted() -> None:
    """Between two steps of long work: a library may have swallowed the interrupt."""
    _Interrupts.working = True
    if _Interrupts.came:
        raise KeyboardInterrupt


def _interrupted() -> int:
    click.echo(_INTERRUPTED, err=True)
    return _BY_A_SHELL + (_Interrupts.came or signal.SIGINT)


def _failed(message: str, exit_code: int, as_json: bool) -> int:
    """Where standard output is to be one JSON object, it is one for failures too."""
    if as_json:
        import json

        click.echo(json.dumps({"error": message, "exit_code": exit_code}))
    return exit_code


def _explain(error: Exception, debug: bool, as_json: bool) -> int:
    from partc.errors import PartcError

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, PartcError):
        click.echo(f"partc: {error.message}", err=True)
        return _failed(error.message, error.exit_code, as_json)
    click.echo(
        f"partc: unexpected {type(error).__name__}: {error}; "
        "this is a defect of partc, run `partc --debug ...` for the traceback and report it",
        err=True,
    )
    return _failed(f"unexpected {type(error).__name__}: {error}", 1, as_json)
