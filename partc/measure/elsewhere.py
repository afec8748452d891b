"""Stored costs beyond those that were asked for: of other settings, and of machines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from partc.ir.cost import Cost
from partc.measure.entries import Entry
from partc.measure.keys import CostKey
from partc.measure.power_mode import in_mode
from partc.measure.store import CostStore


def other_settings_notice(store: CostStore, missing: Iterable[str], command: str) -> str:
    """One sentence where the store has what is missing for the same hardware, otherwise set.

    Empty where it has nothing of the kind.

    Args:
        missing: keys that are not in the store.
        command: what measures them as they are wanted.
    """
    wanted = [CostKey.parse(key) for key in missing]
    found = [(mine, entry.what) for mine, entry in _pairs(store, wanted)
             if mine.fingerprint == entry.what.fingerprint]  # fmt: skip
    return _said(found, "this hardware", command)


@dataclass(frozen=True)
class Elsewhere:
    """What the store knows of a machine that is not here.

    Attributes:
        fingerprint: of the machine; empty where nothing is known.
        costs: name -> cost, for each key that was asked for, or empty.
        notice: where the machine is known with other settings alone, a sentence that says so.
    """

    fingerprint: str = ""
    costs: Mapping[str, Cost] | None = None
    notice: str = ""


def costs_of_machine(
    store: CostStore, keys: Mapping[str, CostKey], accepts: Callable[[str], bool], command: str
) -> Elsewhere:
    """Costs that were measured on a machine elsewhere and came with ``partc costs import``.

    Of several machines that would do, the one that was measured last counts; costs of different
    machines are never mixed.

    Args:
        keys: name -> what is wanted, on whatever hardware, and in whatever power mode if they
            name none.
        accepts: whether a fingerprint is of a machine that would do.
        command: what measures them as they are wanted.
    """
    pairs = [
        (mine, entry)
        for mine, entry in _pairs(store, keys.values())
        if accepts(entry.what.fingerprint)
    ]
    asked = {key.power for key in keys.values()}
    latest: dict[tuple[str, str], str] = {}
    for _, entry in pairs:
        place = entry.what.fingerprint, entry.what.power
        if asked == {""} or entry.what.mode in asked:
            latest[place] = max(latest.get(place, ""), entry.cost.measured_at)
    for fingerprint, power in sorted(latest, key=latest.__getitem__, reverse=True):
        there = {
            name: str(replace(key, fingerprint=fingerprint, power=power))
            for name, key in keys.items()
        }
        found = store.find(there.values())
        if len(found) == len(set(there.values())):
            costs = {name: found[key] for name, key in there.items()}
            return Elsewhere(in_mode(fingerprint, power), costs)
    others = [(mine, entry.what) for mine, entry in pairs]
    return Elsewhere(notice=_said(others, "that hardware", command))


def _pairs(store: CostStore, wanted: Iterable[CostKey]) -> list[tuple[CostKey, Entry]]:
    """Wanted keys, each with every stored cost of the same kind and structure."""
    by_structure = {(key.kind, key.signature): key for key in wanted if key.signature}
    found = store.like(str(key) for key in by_structure.values())
    return [
        (by_structure[entry.what.kind, entry.what.signature], entry)
        for entry in found
        if (entry.what.kind, entry.what.signature) in by_structure
    ]


def _said(pairs: Iterable[tuple[CostKey, CostKey]], hardware: str, command: str) -> str:
    counts = Counter(
        (theirs.conditions_text, mine.conditions_text)
        for mine, theirs in pairs
        if theirs.conditions_text != mine.conditions_text
    )
    if not counts:
        return ""
    (theirs_text, mine_text), count = counts.most_common(1)[0]
    return (
        f"{count} stored cost{'s' if count > 1 else ''} of {hardware} "
        f"{'are' if count > 1 else 'is'} of {theirs_text}, and not of {mine_text} as is asked for; "
        f"measure with {command}"
    )
