"""The tables of a store, and how an older store becomes a newer one without a loss."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from partc.measure.keys import CostKey

VERSION = 2
APPLICATION_ID = 0x70617274  # "part", in the file's header, for `file` and for us

# What the first version had; it still reads and writes a store of today.
_FIRST = {
    "key": "TEXT PRIMARY KEY",
    "median_s": "REAL NOT NULL",
    "spread_s": "REAL NOT NULL",
    "samples": "INTEGER NOT NULL",
    "measured_at": "TEXT NOT NULL",
}
_SECOND = {
    "interval_s": "REAL NOT NULL DEFAULT 0",
    "settled": "INTEGER NOT NULL DEFAULT 1",
    "provenance": "TEXT NOT NULL DEFAULT 'measured'",
    "source": "TEXT NOT NULL DEFAULT ''",
    "kind": "TEXT NOT NULL DEFAULT ''",
    "signature": "TEXT NOT NULL DEFAULT ''",
    "fingerprint": "TEXT NOT NULL DEFAULT ''",
    "settings": "TEXT NOT NULL DEFAULT ''",
    "label": "TEXT NOT NULL DEFAULT ''",
    "model": "TEXT NOT NULL DEFAULT ''",
}
COLUMNS = tuple({**_FIRST, **_SECOND})


class ForeignStoreError(Exception):
    """The file is a database of something else, or of a later partc."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to date.

    Raises:
        ForeignStoreError: the database is not a store of costs that this partc can use.
        sqlite3.DatabaseError: damaged, locked for long, or not writable.
    """
    version = _version(connection)
    if version == VERSION and set(COLUMNS) <= _columns(connection):
        return
    if version > VERSION:
        raise ForeignStoreError("it was written by a later version of partc")
    # Another process may be at the same work: one at a time, and the second finds it done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        _upgrade(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    present = _columns(connection)
    if "costs" not in tables:
        if tables:
            raise ForeignStoreError("it is a database of something else")
        columns = ", ".join(f"{name} {kind}" for name, kind in {**_FIRST, **_SECOND}.items())
        connection.execute(f"CREATE TABLE costs ({columns})")
    elif not set(_FIRST) <= present:
        raise ForeignStoreError("it is a database of something else")
    else:
        for name, kind in _SECOND.items():
            if name not in present:
                connection.execute(f"ALTER TABLE costs ADD COLUMN {name} {kind}")
        keys = [key for (key,) in connection.execute("SELECT key FROM costs WHERE kind = ''")]
        connection.executemany(
            "UPDATE costs SET kind = ?, signature = ?, fingerprint = ?, settings = ? WHERE key = ?",
            ((*described(key), key) for key in keys),
        )
    connection.execute("CREATE INDEX IF NOT EXISTS by_signature ON costs (signature)")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def described(text: str) -> tuple[str, str, str, str]:
    """Kind, signature, fingerprint and settings of a key, as their columns hold them."""
    key = CostKey.parse(text)
    return key.kind, key.signature, key.fingerprint, key.conditions_text


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _columns(connection: sqlite3.Connection) -> set[str]:
    rows: Iterable[tuple[int, str]] = connection.execute("PRAGMA table_info(costs)")
    return {row[1] for row in rows}
