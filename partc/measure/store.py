"""Measured costs of earlier compilations, in one SQLite file that several processes may use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from platformdirs import user_cache_path

from partc.errors import PartcError
from partc.ir.cost import Cost
from partc.measure import schema
from partc.measure.damage import SetAsideError, is_database, is_ours, set_aside
from partc.measure.entries import About, Entry
from partc.measure.exchange import merged
from partc.measure.plausible import refusal

_BUSY_TIMEOUT_S = 20.0
_LARGEST_QUERY = 500
_READ = ", ".join(schema.COLUMNS)

Result = TypeVar("Result")


def default_path() -> Path:
    """Where costs are kept: ``$PARTC_COSTS``, or the user's cache folder."""
    given = os.environ.get("PARTC_COSTS")
    return Path(given) if given else own_path()


def own_path() -> Path:
    """The file in the user's cache folder, which is partc's alone."""
    return user_cache_path("partc") / "costs.sqlite"


class CostStore:
    """Key -> measured cost. A key says what was measured, on which hardware, with which settings.

    A store never stops a compilation: where costs cannot be read or kept, everything is measured
    anew and ``notice`` says why. A store that is damaged is set aside under another name, and what
    can still be read of it is kept; a file that never was one is left alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.notice = ""
        self._usable = True
        self._attempt(self._prepare, None)

    @property
    def is_usable(self) -> bool:
        """Whether costs can be read and kept; ``notice`` says why not."""
        return self._usable

    def find(self, keys: Iterable[str]) -> dict[str, Cost]:
        """The costs that are known."""
        wanted = list(dict.fromkeys(keys))

        def read() -> dict[str, Cost]:
            found: dict[str, Cost] = {}
            with self._connection() as connection:
                for start in range(0, len(wanted), _LARGEST_QUERY):
                    part = wanted[start : start + _LARGEST_QUERY]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT {_READ} FROM costs WHERE key IN ({marks})"
                    found |= {e.key: e.cost for e in _entries(connection, query, part)}
            return found

        return self._attempt(read, {})

    def entries(self) -> list[Entry]:
        """Everything, in the order in which it was measured."""

        def read() -> list[Entry]:
            with self._connection() as connection:
                query = f"SELECT {_READ} FROM costs ORDER BY measured_at, rowid"
                return list(_entries(connection, query))

        return self._attempt(read, [])

    def like(self, keys: Iterable[str]) -> list[Entry]:
        """What has the structure of one of ``keys``, on whatever hardware and settings."""
        signatures = {schema.described(key)[1] for key in keys} - {""}

        def read() -> list[Entry]:
            found: list[Entry] = []
            with self._connection() as connection:
                for signature in sorted(signatures):
                    query = f"SELECT {_READ} FROM costs WHERE signature = ?"
                    found += _entries(connection, query, [signature])
            return found

        return self._attempt(read, [])

    def add(self, costs: Mapping[str, Cost], about: Mapping[str, About] | None = None) -> None:
        """Keep measured costs at once; a newer measurement replaces an older one.

        Args:
            about: key -> words for people; those of the first time are kept.
        """
        words = about or {}
        self.put(Entry(key, cost, words.get(key, About())) for key, cost in costs.items())

    def put(self, entries: Iterable[Entry]) -> None:
        """As `add`, with everything that an entry holds."""
        rows = [_row(entry) for entry in entries]

        def write() -> None:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_UPSERT, rows)
                connection.execute("COMMIT")

        self._attempt(write, None)

    def merge(self, arriving: Sequence[Entry], overwrite: bool = False) -> dict[str, int]:
        """Take over entries from elsewhere; gives how many were added, replaced, older and same.

        In one transaction, so that no measurement of another process meanwhile is lost.

        Args:
            overwrite: replace newer measurements too.
        """

        def write() -> dict[str, int]:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                query = f"SELECT {_READ} FROM costs"
                known = {entry.key: entry for entry in _entries(connection, query)}
                keep, counts = merged(known, arriving, overwrite)
                connection.executemany(_UPSERT, [_row(entry) for entry in keep])
                connection.execute("COMMIT")
            return counts

        return self._attempt(write, merged({}, [])[1])

    def remove(self, keys: Iterable[str]) -> int:
        """Forget costs; gives how many there were."""
        wanted = [(key,) for key in dict.fromkeys(keys)]

        def delete() -> int:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                gone = connection.executemany("DELETE FROM costs WHERE key = ?", wanted).rowcount
                connection.execute("COMMIT")
            return max(gone, 0)

        return self._attempt(delete, 0)

    def _prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not (is_ours(self.path, own_path()) or is_database(self.path)):
            raise schema.ForeignStoreError("it is no store of costs")
        with self._connection() as connection:
            schema.prepare(connection)

    def _attempt(self, work: Callable[[], Result], otherwise: Result) -> Result:
        """Do ``work``; once more after damage was set aside."""
        if not self._usable:
            return otherwise
        try:
            return work()
        except (sqlite3.OperationalError, OSError, schema.ForeignStoreError) as error:
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            if self._begin_anew(error):
                return self._attempt_again(work, otherwise)
        return otherwise

    def _attempt_again(self, work: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return work()
        except (sqlite3.DatabaseError, OSError, schema.ForeignStoreError) as error:
            self._give_up(error)
            return otherwise

    def _begin_anew(self, damage: sqlite3.DatabaseError) -> bool:
        """Set a damaged store aside and rescue what can be read of it."""
        try:
            if not is_ours(self.path, own_path()):
                raise schema.ForeignStoreError("it is no store of costs, or damaged beyond that")
            aside, rescued = set_aside(self.path, self._check)
            self._prepare()
        except SetAsideError:
            return True  # another process did it a moment ago
        except (OSError, sqlite3.DatabaseError, schema.ForeignStoreError) as error:
            self._give_up(error)
            return False
        kept = [entry for entry in rescued if not refusal(entry)]
        with contextlib.suppress(sqlite3.DatabaseError), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_UPSERT, [_row(entry) for entry in kept])
            connection.execute("COMMIT")
        self.notice = (
            f"the store of measured costs was damaged ({damage}); it is kept as {aside}, and a "
            f"new one was begun"
        )
        if kept:
            count = len(kept)
            self.notice += f" with the {count} cost{'s' if count > 1 else ''} that could be read"
        return True

    def _check(self) -> None:
        """Raises sqlite3.DatabaseError if the file is damaged now."""
        with self._connection() as connection:
            schema.prepare(connection)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        self.notice = (
            f"measured costs cannot be kept in {self.path} ({reason}), so they are measured anew "
            "each time; name another file in PARTC_COSTS"
        )

    def require(self) -> None:
        """For commands that are about the store itself.

        Raises:
            PartcError: it cannot be used.
        """
        if not self._usable:
            raise PartcError(self.notice)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()  # what was begun and not committed is undone


_OWN = ("label", "model")
_UPSERT = (
    f"INSERT INTO costs ({_READ}) VALUES ({', '.join('?' * len(schema.COLUMNS))}) "
    "ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in schema.COLUMNS if c not in ("key", *_OWN))
    + "".join(f", {c} = CASE {c} WHEN '' THEN excluded.{c} ELSE {c} END" for c in _OWN)
)


def _row(entry: Entry) -> tuple[object, ...]:
    cost = entry.cost
    kind, signature, fingerprint, settings = schema.described(entry.key)
    values = {
        "key": entry.key,
        "median_s": cost.median_s,
        "spread_s": cost.spread_s,
        "samples": cost.samples,
        "measured_at": cost.measured_at,
        "interval_s": cost.interval_s,
        "settled": int(cost.settled),
        "provenance": cost.provenance,
        "source": cost.source,
        "kind": kind,
        "signature": signature,
        "fingerprint": fingerprint,
        "settings": settings,
        "label": entry.about.label,
        "model": entry.about.model,
    }
    return tuple(values[name] for name in schema.COLUMNS)


def _entries(
    connection: sqlite3.Connection, query: str, values: Sequence[str] = ()
) -> Iterator[Entry]:
    """Rows that make sense; what no measurement can have given is passed over."""
    for row in connection.execute(query, values):
        entry = entry_of(dict(zip(schema.COLUMNS, row, strict=True)))
        if entry is not None and not refusal(entry):
            yield entry


def entry_of(row: Mapping[str, object]) -> Entry | None:
    """An entry from its columns; None where they have other types."""
    numbers = [row.get(name) for name in ("median_s", "spread_s", "interval_s")]
    samples, settled = row.get("samples"), row.get("settled")
    names = ("key", "measured_at", "provenance", "source", "fingerprint", "label", "model")
    texts = [row.get(name) for name in names]
    if not all(isinstance(each, (int, float)) for each in numbers):
        return None
    if not isinstance(samples, int) or not isinstance(settled, int):
        return None
    if not all(isinstance(each, str) for each in texts):
        return None
    median_s, spread_s, interval_s = (float(each) for each in numbers)  # type: ignore[arg-type]
    key, measured_at, provenance, source, fingerprint, label, model = map(str, texts)
    cost = Cost(
        median_s,
        spread_s,
        samples,
        provenance,  # type: ignore[arg-type]  # `refusal` looks at it
        measured_at,
        interval_s,
        bool(settled),
        fingerprint,
        source,
    )
    return Entry(key, cost, About(label, model))
