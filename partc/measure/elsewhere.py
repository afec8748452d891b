"""Stored costs that are not used, since they were measured with other settings than asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from partc.measure.keys import CostKey
from partc.measure.store import CostStore


def other_settings_notice(store: CostStore, missing: Iterable[str], command: str) -> str:
    """One sentence where the store has what is missing for the same hardware, otherwise set.

    Empty where it has nothing of the kind.

    Args:
        missing: keys that are not in the store.
        command: what measures them as they are wanted.
    """
    wanted = [CostKey.parse(key) for key in missing]
    by_structure = {(key.kind, key.signature, key.fingerprint): key for key in wanted}
    found: Counter[tuple[str, str]] = Counter()
    for entry in store.like(str(key) for key in wanted):
        what = entry.what
        mine = by_structure.get((what.kind, what.signature, what.fingerprint))
        if mine is not None and mine != what:
            found[what.conditions_text, mine.conditions_text] += 1
    if not found:
        return ""
    (theirs, mine_text), count = found.most_common(1)[0]
    return (
        f"{count} stored cost{'s' if count > 1 else ''} of this hardware "
        f"{'are' if count > 1 else 'is'} of {theirs}, and not of {mine_text} as is asked for; "
        f"measure with {command}"
    )
