"""partc costs."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from partc.cli.console import json_option, people, print_json
from partc.errors import UsageError

if TYPE_CHECKING:
    from partc.measure.entries import Entry, Selection
    from partc.measure.store import CostStore

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6})\s*([mhdw])")
_MOST_SHOWN = 40

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_store_option = click.option(
    "--store", "store_path", type=click.Path(path_type=Path), metavar="FILE",
    help="The store; $PARTC_COSTS or the one in your cache folder if not given.",
)  # fmt: skip


def _selecting(function: Decorated) -> Decorated:
    """Options that choose among entries."""
    for option in (
        click.option("--older-than", metavar="AGE", help="Measured longer ago: 30d, 12h, 2w, 90m."),
        click.option("--threads", type=click.IntRange(min=1), help="Measured with so many."),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
            help="Measured in this precision.",
        ),
        click.option("--label", metavar="TEXT", default="", help="Op types or shapes with TEXT."),
        click.option("--kind", metavar="KIND", default="", help="block, segment, whole, ..."),
        click.option("--model", metavar="TEXT", default="", help="First seen in such a model."),
        click.option(
            "--fingerprint", metavar="TEXT", default="", help="Hardware or backend with TEXT."
        ),
        _store_option,
    ):
        function = option(function)
    return function


@click.group("costs")
def command() -> None:
    """List, show, share and forget measured costs.

    Costs are measured by partc compile and partc profile and kept for later compilations.
    """


@command.command("list")
@_selecting
@click.option("--limit", type=click.IntRange(min=0), default=_MOST_SHOWN, show_default=True,
              help="Most rows to print, the newest; 0 prints all.")  # fmt: skip
@json_option
def list_command(store_path: Path | None, limit: int, as_json: bool, **selection: Any) -> None:
    """List stored costs, the newest last."""
    from partc.report.cost_tables import print_costs

    store = _opened(store_path)
    entries = _selection(**selection).of(store.entries())
    if as_json:
        print_json(
            {
                "store": str(store.path),
                "costs": [_plain(entry) for entry in entries],
                "notice": store.notice,
            }
        )
        return
    shown = entries[-limit:] if limit else entries
    print_costs(people(to_stdout=True), [_plain(e) for e in shown], len(entries), str(store.path))


@command.command("show")
@click.argument("which")
@_store_option
@json_option
def show_command(which: str, store_path: Path | None, as_json: bool) -> None:
    """Show everything about stored costs: WHICH is a key, the beginning of a signature or a label.

    Signatures are in the first column of `partc costs list`.
    """
    from partc.report.cost_tables import print_cost

    store = _opened(store_path)
    found = [entry for entry in store.entries() if _is_meant(entry, which)]
    if not found:
        raise UsageError(
            f"no stored cost has {which!r} as its key, in its label or as the beginning of its "
            "signature; partc costs list shows them"
        )
    if as_json:
        print_json({"store": str(store.path), "costs": [_plain(entry) for entry in found]})
        return
    console = people(to_stdout=True)
    for entry in found:
        print_cost(console, _plain(entry))


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_selecting
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@json_option
def export_command(
    file: Path, store_path: Path | None, force: bool, as_json: bool, **selection: Any
) -> None:
    """Write stored costs to FILE, for `partc costs import` on another machine; - prints them."""
    from partc import __version__
    from partc.measure.exchange import to_json

    store = _opened(store_path)
    entries = _selection(**selection).of(store.entries())
    text = to_json(entries, __version__)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    if file.exists() and not force:
        raise UsageError(f"{file} exists already; name another file or add --force")
    _write(file, text)
    if as_json:
        print_json({"store": str(store.path), "file": str(file), "exported": len(entries)})
    else:
        people().print(f"{_counted(len(entries))} written to {file}", markup=False)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_store_option
@click.option("--overwrite", is_flag=True, help="Replace newer measurements too.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def import_command(
    file: Path, store_path: Path | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Take over the costs in FILE, which `partc costs export` wrote.

    A newer measurement in the store stays, unless --overwrite is given.
    """
    from partc.measure.exchange import merged, read_costs

    arriving = read_costs(file)
    store = _opened(store_path)
    if dry_run:
        known = {entry.key: entry for entry in store.entries()}
        counts = merged(known, arriving, overwrite)[1]
    else:
        counts = store.merge(arriving, overwrite)
        store.require()
    if as_json:
        print_json({"store": str(store.path), "file": str(file), "dry_run": dry_run, **counts})
        return
    hardware = len({entry.what.fingerprint for entry in arriving})
    would = "would be " if dry_run else ""
    people().print(
        f"{file}: {_counted(len(arriving))} of {hardware} "
        f"target{'' if hardware == 1 else 's'}: {counts['added']} {would}added, "
        f"{counts['replaced']} {would}replaced, {counts['older']} older than what is stored, "
        f"{counts['same']} known",
        markup=False,
    )


@command.command("prune")
@_selecting
@click.option("--all", "everything", is_flag=True, help="All that is stored.")
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten, and forget nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def prune_command(
    store_path: Path | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """Forget stored costs: those that all given options select."""
    wanted = _selection(**selection)
    if wanted.is_everything and not everything:
        raise UsageError(
            "partc costs prune forgets nothing unless told what: "
            "give --older-than 90d, --fingerprint TEXT or another option, or --all"
        )
    store = _opened(store_path)
    entries = wanted.of(store.entries())
    if not (dry_run or yes) and entries:
        if as_json or not sys.stdin.isatty():
            raise UsageError(
                f"{_counted(len(entries))} would be forgotten, and there is nobody to ask; "
                "add --yes, or --dry-run to see them"
            )
        click.confirm(f"Forget {_counted(len(entries))} in {store.path}?", abort=True, err=True)
    if not dry_run:
        store.remove(entry.key for entry in entries)
        store.require()
    if as_json:
        costs = [_plain(entry) for entry in entries]
        print_json({"store": str(store.path), "dry_run": dry_run, "pruned": costs})
        return
    console = people()
    if dry_run and entries:
        from partc.report.cost_tables import print_costs

        shown = [_plain(entry) for entry in entries[-_MOST_SHOWN:]]
        print_costs(people(to_stdout=True), shown, len(entries), str(store.path))
    done = "would be forgotten" if dry_run else "forgotten"
    console.print(f"{_counted(len(entries))} {done}", markup=False)


def _opened(path: Path | None) -> CostStore:
    from partc.measure.store import CostStore

    if path is not None and not path.exists():
        raise UsageError(f"--store {path} does not exist")
    store = CostStore(path)
    store.require()
    if store.notice:
        people().print(f"Note: {store.notice}", markup=False, style="yellow")
    return store


def _selection(older_than: str | None, **texts: Any) -> Selection:
    from partc.measure.entries import Selection

    return Selection(older_than=parse_age(older_than) if older_than else None, **texts)


def parse_age(text: str) -> datetime.timedelta:
    """``30d``, ``12h``, ``2w`` or ``90m``.

    Raises:
        UsageError: it is nothing of the kind.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--older-than {text!r} is no age; write 30d, 12h, 2w or 90m (minutes)")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


def _is_meant(entry: Entry, which: str) -> bool:
    signature = entry.what.signature
    return (
        entry.key == which
        or (len(which) >= 4 and signature.startswith(which.casefold()))
        or which.casefold() in entry.about.label.casefold()
    )


def _plain(entry: Entry) -> dict[str, Any]:
    """An entry as ``--json`` has it."""
    what, cost = entry.what, entry.cost
    return {
        "key": entry.key,
        "kind": what.kind,
        "signature": what.signature,
        "fingerprint": what.fingerprint,
        "settings": what.conditions_text,
        "threads": what.threads,
        "precision": what.precision or None,
        "pause_ms": what.pause_ms,
        "label": entry.about.label,
        "model": entry.about.model,
        "median_s": cost.median_s,
        "spread_s": cost.spread_s,
        "interval_s": cost.interval_s,
        "samples": cost.samples,
        "settled": cost.settled,
        "provenance": cost.provenance,
        "source": cost.source,
        "measured_at": cost.measured_at,
    }


def _counted(number: int) -> str:
    return f"{number:,} cost{'' if number == 1 else 's'}"


def _write(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
