"""The closest known name to one that a user mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name: the closest match if there is one, and all that exist."""
    names = sorted(known)
    close = _closest(name, names)
    hint = f" Did you mean {close!r}?" if close else ""
    listing = f" Known: {', '.join(names)}." if names else " None are known."
    return f"There is no {kind} named {name!r}.{hint}{listing}"


def _closest(name: str, names: list[str]) -> str | None:
    """Case counts only between names that are otherwise equally close."""
    folded = dict.fromkeys(each.casefold() for each in names)
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    alike = [each for each in names if each.casefold() in close]
    return max(alike, key=lambda each: _likeness(name, each), default=None)


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
