"""Measured costs of earlier compilations, in one SQLite file that several processes may use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from partc.ir.cost import Cost

_SCHEMA = """
CREATE TABLE IF NOT EXISTS costs (
  key TEXT PRIMARY KEY,
  median_s REAL NOT NULL,
  spread_s REAL NOT NULL,
  samples INTEGER NOT NULL,
  measured_at TEXT NOT NULL
)
"""
_BUSY_TIMEOUT_S = 10.0
_LARGEST_QUERY = 500


def default_path() -> Path:
    """Where costs are kept: ``$PARTC_COSTS``, or the user's cache folder."""
    given = os.environ.get("PARTC_COSTS")
    return Path(given) if given else user_cache_path("partc") / "costs.sqlite"


class CostStore:
    """Key -> measured cost. A key says what was measured, on which hardware, with which settings.

    A file that is not a cost store is set aside under another name, and ``notice`` says so.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.notice = ""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._prepare()
        except sqlite3.DatabaseError:
            aside = self.path.with_suffix(f".corrupt-{int(time.time())}")
            self.path.rename(aside)
            self.notice = f"the cost store was corrupt; it is now {aside} and a new one was begun"
            self._prepare()

    def find(self, keys: Iterable[str]) -> dict[str, Cost]:
        """The costs that are known."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Cost] = {}
        with self._connection() as connection:
            for start in range(0, len(wanted), _LARGEST_QUERY):
                part = wanted[start : start + _LARGEST_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(f"SELECT * FROM costs WHERE key IN ({marks})", part)
                for key, median_s, spread_s, samples, measured_at in rows:
                    found[key] = Cost(median_s, spread_s, samples, "measured", measured_at)
        return found

    def add(self, costs: Mapping[str, Cost]) -> None:
        """Keep measured costs; a newer measurement replaces an older one."""
        rows = [
            (key, cost.median_s, cost.spread_s, cost.samples, cost.measured_at)
            for key, cost in costs.items()
        ]
        with self._connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO costs VALUES (?, ?, ?, ?, ?)", rows)

    def _prepare(self) -> None:
        with self._connection() as connection:
            connection.execute(_SCHEMA)
            connection.execute("SELECT key FROM costs LIMIT 1").fetchall()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
        try:
            with connection:
                yield connection
        finally:
            connection.close()
