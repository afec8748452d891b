"""Costs as a JSON file, so that a team measures once: written, and read with every doubt."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from partc.errors import UsageError
from partc.ir.cost import Cost
from partc.measure.entries import About, Entry, parse_time
from partc.measure.keys import KINDS, STRUCTURED, CostKey
from partc.measure.plausible import refusal
from partc.measure.statistics import now

FORMAT, VERSION = "partc-costs", 1
_LARGEST_BYTES = 256 << 20
_MOST_ENTRIES = 1_000_000
_CLOCK_TOLERANCE = datetime.timedelta(days=1)

Text = Annotated[str, StringConstraints(max_length=1000)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CostFileEntry(_Strict):
    """One cost; see `partc.ir.cost.Cost` and `partc.measure.keys.CostKey`.

    Attributes:
        key: kind, structure, hardware and settings, as the store has them.
        label, model: for people: op types and shapes, and where it was first seen.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    median_s: Time
    spread_s: Time
    interval_s: Time = 0.0
    samples: Annotated[int, Field(ge=1, le=10**9)]
    settled: bool = True
    provenance: Literal["measured", "imported"]
    measured_at: Text
    source: Text = ""
    label: Text = ""
    model: Text = ""


class CostFile(_Strict):
    """What ``partc costs export`` writes and ``partc costs import`` reads."""

    format: Literal["partc-costs"]
    version: Annotated[int, Field(ge=1, le=VERSION)]
    partc_version: Text = ""
    exported_at: Text = ""
    costs: Annotated[list[CostFileEntry], Field(max_length=_MOST_ENTRIES)]


def to_json(entries: Iterable[Entry], partc_version: str = "") -> str:
    """The file. Estimates and scaled costs stay out of it: only measurements travel."""
    costs = [
        CostFileEntry(
            key=entry.key,
            median_s=entry.cost.median_s,
            spread_s=entry.cost.spread_s,
            interval_s=entry.cost.interval_s,
            samples=entry.cost.samples,
            settled=entry.cost.settled,
            provenance=entry.cost.provenance,
            measured_at=entry.cost.measured_at,
            source=entry.cost.source,
            label=entry.about.label,
            model=entry.about.model,
        )
        for entry in entries
        if entry.cost.provenance in ("measured", "imported")
        and entry.cost.samples > 0
        and not _nonsense(entry)
    ]
    file = CostFile(
        format="partc-costs",
        version=1,
        partc_version=partc_version,
        exported_at=now(),
        costs=costs,
    )
    return json.dumps(file.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def read_costs(path: Path) -> list[Entry]:
    """The entries of a file that ``partc costs export`` wrote.

    They stay ``measured``, for their keys name the hardware and the settings they were measured
    with, and no other host takes them; ``source`` then says which file they came from.

    Raises:
        UsageError: the file is missing, too large, of another kind, or an entry makes no sense.
    """
    data = _parsed(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UsageError(
            f"{path} holds no costs that partc costs export wrote; "
            "profiles of other tools are read by partc profile --costs-from"
        )
    version = data.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise UsageError(
            f"{path} has version {version}, this partc reads up to {VERSION}; update partc"
        )
    try:
        file = CostFile.model_validate(data)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part)[:60] for part in detail["loc"])
        raise UsageError(f"{path}: {where}: {detail['msg']}") from None
    entries = [_entry(each, path) for each in file.costs]
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        why = _nonsense(entry) or ("its key is there twice" if entry.key in seen else "")
        if why:
            raise UsageError(f"{path}: costs.{index}: {why}; nothing was imported")
        seen.add(entry.key)
    return entries


def _entry(each: CostFileEntry, path: Path) -> Entry:
    cost = Cost(
        each.median_s,
        each.spread_s,
        each.samples,
        each.provenance,
        _in_utc(each.measured_at),
        each.interval_s,
        each.settled,
        CostKey.parse(each.key).fingerprint,
        each.source or f"imported from {_printable(path.name)[:200]}",
    )
    return Entry(each.key, cost, About(each.label, each.model))


def _in_utc(text: str) -> str:
    """A time as the store writes it; what is none stays, to be refused."""
    moment = parse_time(text)
    try:
        return text if moment is None else moment.astimezone(datetime.UTC).isoformat()
    except OverflowError:
        return f"{text} (no time)"


def _nonsense(entry: Entry) -> str:
    """Why no store of costs has such an entry; empty if it may."""
    why = refusal(entry)
    if why:
        return why
    what = entry.what
    if str(what) != entry.key or not _is_complete(what):
        return f"{_printable(entry.key)[:80]!r} is no key of a cost"
    if not entry.cost.measured_at:
        return "it does not say when it was measured"
    measured_at = entry.measured_at
    latest = datetime.datetime.now(datetime.UTC) + _CLOCK_TOLERANCE
    if measured_at is not None and measured_at > latest:
        return f"it was measured in the future ({entry.cost.measured_at[:40]})"
    if not all(t.isprintable() for t in (entry.cost.source, entry.about.label, entry.about.model)):
        return "its texts hold control characters"
    return ""


def _is_complete(what: CostKey) -> bool:
    of_machine = what.kind not in STRUCTURED
    return what.kind in KINDS and bool(what.fingerprint) and bool(what.signature) != of_machine


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _parsed(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UsageError(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB; it is no costs")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise UsageError(
            f"{path} is not valid JSON; give a file that partc costs export wrote"
        ) from None


def merged(
    known: dict[str, Entry], arriving: Sequence[Entry], overwrite: bool = False
) -> tuple[list[Entry], dict[str, int]]:
    """Which of ``arriving`` to keep beside ``known``, and how many were what.

    A measurement replaces an older one; with ``overwrite`` also a newer one.
    """
    keep: list[Entry] = []
    counts = {"added": 0, "replaced": 0, "older": 0, "same": 0}
    for entry in arriving:
        present = known.get(entry.key)
        if present is None:
            counts["added"] += 1
            keep.append(entry)
        elif replace(present.cost, source="") == replace(entry.cost, source=""):
            counts["same"] += 1
        elif overwrite or _is_newer(entry, present):
            counts["replaced"] += 1
            keep.append(entry)
        else:
            counts["older"] += 1
    return keep, counts


def _is_newer(one: Entry, other: Entry) -> bool:
    first, second = one.measured_at, other.measured_at
    return first is not None and (second is None or first > second)
