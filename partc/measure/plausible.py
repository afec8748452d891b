"""What no measurement can have given."""

from __future__ import annotations

import math
from typing import get_args

from partc.ir.cost import Provenance
from partc.measure.entries import Entry, parse_time

_LONGEST_S = 1e6
_MOST_SAMPLES = 10**9
_LONGEST_KEY, _LONGEST_TEXT = 1000, 300


def refusal(entry: Entry) -> str:
    """Why an entry is nonsense, as the end of a sentence; empty if it is not."""
    cost = entry.cost
    for name in ("median_s", "spread_s", "interval_s"):
        value = getattr(cost, name)
        if not (math.isfinite(value) and 0 <= value <= _LONGEST_S):
            return f"its {name} is {value:g}, which is no time that a run takes"
    if not 0 <= cost.samples <= _MOST_SAMPLES:
        return f"its samples are {cost.samples}"
    if cost.provenance not in get_args(Provenance):
        return f"its provenance is {cost.provenance[:40]!r}"
    if cost.measured_at and parse_time(cost.measured_at) is None:
        return f"its measured_at is {cost.measured_at[:40]!r}, which is no time"
    if not entry.key or len(entry.key) > _LONGEST_KEY or not entry.key.isprintable():
        return "its key is no key of a cost"
    for name, text in (("source", cost.source), ("label", entry.about.label),
                       ("model", entry.about.model)):  # fmt: skip
        if len(text) > _LONGEST_TEXT:
            return f"its {name} has {len(text):,} characters"
    return ""
