"""What the store holds: a cost, what it is the cost of, and words for people."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from partc.ir.cost import Cost
from partc.measure.keys import CostKey


@dataclass(frozen=True)
class About:
    """Words for people about something that was measured.

    Attributes:
        label: op types and shapes, as ``Conv+Relu 1x3x224x224 -> 1x32x112x112``.
        model: in which model it was first seen.
    """

    label: str = ""
    model: str = ""


@dataclass(frozen=True)
class Entry:
    """One stored cost; ``key`` is the text it is stored under."""

    key: str
    cost: Cost
    about: About = About()

    @cached_property
    def what(self) -> CostKey:
        """What it is the cost of."""
        return CostKey.parse(self.key)

    @property
    def measured_at(self) -> datetime.datetime | None:
        """When, or None where that is not known."""
        return parse_time(self.cost.measured_at)


def parse_time(text: str) -> datetime.datetime | None:
    """An ISO 8601 time; without a zone it is taken for UTC."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Selection:
    """Which entries; what is None or empty selects all.

    Attributes:
        fingerprint, model, kind, label: parts of these texts, whatever the case.
        older_than: measured longer ago than this; entries without a time count as older.
        threads: of a run.
        precision: in which the model ran.
    """

    fingerprint: str = ""
    model: str = ""
    kind: str = ""
    label: str = ""
    older_than: datetime.timedelta | None = None
    threads: int | None = None
    precision: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    def of(self, entries: Iterable[Entry], now: datetime.datetime | None = None) -> list[Entry]:
        """The entries that are selected."""
        moment = now or datetime.datetime.now(datetime.UTC)
        return [entry for entry in entries if self._holds(entry, moment)]

    def _holds(self, entry: Entry, now: datetime.datetime) -> bool:
        texts = (
            (self.fingerprint, entry.what.fingerprint),
            (self.model, entry.about.model),
            (self.kind, entry.what.kind),
            (self.label, entry.about.label),
        )
        if any(wanted.casefold() not in text.casefold() for wanted, text in texts):
            return False
        if self.threads is not None and entry.what.threads != self.threads:
            return False
        if self.precision is not None and entry.what.precision != self.precision:
            return False
        measured_at = entry.measured_at
        return self.older_than is None or measured_at is None or now - measured_at > self.older_than
