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
_COLUMNS = "key, median_s, spread_s, samples, measured_at"
_BUSY_TIMEOUT_S = 10.0
_LARGEST_QUERY = 500


def default_path() -> Path:
    """Where costs are kept: ``$PARTC_COSTS``, or the user's cache folder."""
    given = os.environ.get("PARTC_COSTS")
    return Path(given) if given else user_cache_path("partc") / "costs.sqlite"


class CostStore:
    """Key -> measured cost. A key says what was measured, on which hardware, with which settings.

    A store never stops a compilation: where costs cannot be read or kept, everything is measured
    anew and ``notice`` says why. A file that is damaged is set aside under another name.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.notice = ""
        self._usable = True
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._give_up(error)
        except sqlite3.DatabaseError:
            self._begin_anew()
        except OSError as error:
            self._give_up(error)

    def find(self, keys: Iterable[str]) -> dict[str, Cost]:
        """The costs that are known."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Cost] = {}
        if not self._usable:
            return found
        try:
            with self._connection() as connection:
                for start in range(0, len(wanted), _LARGEST_QUERY):
                    part = wanted[start : start + _LARGEST_QUERY]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT {_COLUMNS} FROM costs WHERE key IN ({marks})"
                    for key, median_s, spread_s, samples, measured_at in connection.execute(
                        query, part
                    ):
                        found[key] = Cost(median_s, spread_s, samples, "measured", measured_at)
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return {}
        return found

    def add(self, costs: Mapping[str, Cost]) -> None:
        """Keep measured costs; a newer measurement replaces an older one."""
        rows = [
            (key, cost.median_s, cost.spread_s, cost.samples, cost.measured_at)
            for key, cost in costs.items()
        ]
        if not self._usable:
            return
        try:
            with self._connection() as connection:
                connection.executemany(
                    f"INSERT OR REPLACE INTO costs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", rows
                )
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def _prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            known = connection.execute("SELECT name FROM sqlite_master WHERE name = 'costs'")
            if known.fetchone() is None:
                connection.execute(_SCHEMA)
            connection.execute(f"SELECT {_COLUMNS} FROM costs LIMIT 1").fetchall()

    def _begin_anew(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        try:
            # Another process may have set it aside a moment ago.
            with contextlib.suppress(FileNotFoundError):
                self.path.rename(aside)
            self._prepare()
        except (OSError, sqlite3.DatabaseError) as error:
            self._give_up(error)
            return
        self.notice = (
            f"the store of measured costs was damaged; it is kept as {aside}, "
            "and a new one was begun"
        )

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        self.notice = (
            f"measured costs cannot be kept in {self.path} ({reason}), so they are measured anew "
            "each time; name another file in PARTC_COSTS"
        )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
        try:
            with connection:
                yield connection
        finally:
            connection.close()
