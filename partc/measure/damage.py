"""A damaged store: is it ours, out of the way with it, and what can still be read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from partc.measure import schema

if TYPE_CHECKING:
    from partc.measure.entries import Entry

_HEADER = b"SQLite format 3\0"
_ID_AT = 68  # of the application, in the header; zeros follow, which no text has
_NAMED = schema.APPLICATION_ID.to_bytes(4, "big") + bytes(20)
_PAGES = 1 << 16
_BESIDE = ("-journal", "-wal", "-shm")


class SetAsideError(Exception):
    """It is no longer damaged: another process was faster."""


def is_ours(path: Path, own: Path) -> bool:
    """Whether a file is, or was before it was damaged, a store of costs; a missing one will be.

    A store names its maker in its header, and its columns in its first pages. A file without even
    that is ours only at ``own``, the place where nobody else writes.
    """
    start = _start(path)
    return (
        not start
        or path == own
        or start[_ID_AT : _ID_AT + len(_NAMED)] == _NAMED
        # The first version did not say its name.
        or (start.startswith(_HEADER) and b"median_s" in start)
    )


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite's do."""
    return _start(path).startswith(_HEADER)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PAGES)
    except FileNotFoundError:
        return b""


def set_aside(path: Path, check: Callable[[], None]) -> tuple[Path, list[Entry]]:
    """Rename a damaged store, and give its new name and the entries that can still be read.

    Raises:
        SetAsideError: ``check`` finds no damage, so somebody else has replaced the file.
        OSError: it cannot be renamed.
    """
    with _alone(path):
        try:
            check()
        except sqlite3.DatabaseError:
            pass
        else:
            raise SetAsideError
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        path.rename(aside)
        for suffix in _BESIDE:  # a journal left behind would be applied to the new store
            with contextlib.suppress(OSError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside, list(_readable(aside))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from setting aside at the same time, where the system can."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        import fcntl

        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _readable(path: Path) -> Iterator[Entry]:
    """What can be read of a damaged store, from both ends."""
    from partc.measure.store import entry_of

    found: dict[object, Entry] = {}
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError, UnicodeDecodeError, OSError):
            connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
            with contextlib.closing(connection):
                cursor = connection.execute(f"SELECT * FROM costs ORDER BY rowid {order}")
                names = [each[0] for each in cursor.description]
                for row in cursor:
                    defaults = {"interval_s": 0.0, "settled": 1, "provenance": "measured"}
                    texts = dict.fromkeys(("source", "fingerprint", "label", "model"), "")
                    entry = entry_of({**defaults, **texts, **dict(zip(names, row, strict=True))})
                    if entry is not None:
                        found.setdefault(entry.key, entry)
    yield from found.values()
