"""What commands share: where text goes, JSON, progress, and reading arrays and shapes."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partc.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from partc.ir.program import Array
    from partc.passes.contract import Progress

_MOST_ELEMENTS = 2**40

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say more.")
calibration_option = click.option(
    "--calibration", multiple=True, type=click.Path(path_type=Path), metavar="X.npz",
    help="Sample inputs for hosts with precision int8: a file, or a folder of them; may be "
    "repeated.",
)  # fmt: skip


def people(quiet: bool = False, to_stdout: bool = False) -> Console:
    """A console for people: standard error, or standard output where that is what was asked."""
    from rich.console import Console

    return Console(stderr=not to_stdout, quiet=quiet, highlight=False, soft_wrap=not to_stdout)


def print_json(data: Any) -> None:
    """One JSON object on standard output, and nothing else."""
    click.echo(json.dumps(data, indent=1, allow_nan=False, default=float))


@contextlib.contextmanager
def progress_of(console: Console) -> Iterator[Progress]:
    """A progress line while something goes on; nothing where no terminal would show it."""
    from partc.cli.main import raise_if_interrupted

    if console.quiet or not console.is_terminal:
        yield lambda activity, fraction: raise_if_interrupted()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(activity: str, fraction: float | None) -> None:
            raise_if_interrupted()
            total = None if fraction is None else 1.0
            bar.update(task, description=activity, total=total, completed=fraction or 0.0)

        yield show


def read_arrays(path: Path, option: str) -> dict[str, Array]:
    """The arrays of an ``.npz``, by name.

    Raises:
        UsageError: the file is missing or is not an ``.npz`` of plain arrays.
    """
    from partc.bundle.arrays import read_npz

    if not path.exists():
        raise UsageError(f"{option} {path} does not exist")
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{option} {path} is not an .npz file of plain arrays ({error}); "
            "save with numpy.savez(file, NAME=array)"
        ) from error


def read_calibration(paths: tuple[Path, ...]) -> list[dict[str, Array]]:
    """Each ``.npz`` that is named, and each in a folder that is named.

    Raises:
        UsageError: a folder has none, or a file is no ``.npz`` of plain arrays.
    """
    found: list[dict[str, Array]] = []
    for path in paths:
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"--calibration {path} has no .npz files")
        found += [read_arrays(file, "--calibration") for file in files]
    return found


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write an ``.npz`` beside its final name first, so that it is there whole or not at all."""
    from partc.bundle.arrays import write_npz

    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write_npz(unfinished, arrays)
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def parse_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` options.

    Raises:
        UsageError: an option is not of that form.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        parts = [part.strip() for part in numbers.split(",")] if numbers.strip() else []
        if not equals or not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise UsageError(f"--shape {text!r} is not of the form NAME=1,3,224,224")
        if name in shapes:
            raise UsageError(f"--shape gives a shape for {name!r} twice")
        shapes[name] = tuple(int(part) for part in parts)
        if math.prod(shapes[name]) > _MOST_ELEMENTS:
            raise UsageError(f"--shape {text!r} has more elements than any machine holds")
    return shapes


def is_terminal() -> bool:
    """Whether people look at standard error."""
    return sys.stderr.isatty()
