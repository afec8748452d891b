"""The closest known name to one that a user mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name: the closest match if there is one, and all that exist."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = f" Known: {', '.join(names)}." if names else " None are known."
    return f"There is no {kind} named {name!r}.{hint}{listing}"
