"""Names out of ONNX files, made fit for display: they may hold anything."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LAST_LATIN = 0x24F
_LONGEST_COMPONENT = 256
_SEPARATOR = re.compile(r"[/.:](?![^\[\]]*\])")  # not within the rows of "Slice_t[0:9]@left"


def visible(name: str) -> str:
    """``name`` with every control, format and unassigned character shown as U+FFFD.

    What steers a reader's eye without being seen (bidirectional overrides, zero-width joiners)
    and what cannot be encoded (lone surrogates) must not reach a page or a terminal.
    """
    return "".join("\ufffd" if unicodedata.category(c) in _INVISIBLE else c for c in name)


def shortened(name: str, limit: int) -> str:
    """A visible name of at most ``limit`` characters; the middle is left out, not the ends."""
    name = visible(name)
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return f"{name[: limit - 1 - tail]}…{name[len(name) - tail :]}"


def fitting(name: str, limit: int) -> str:
    """As `shortened`, of the last component where the whole does not fit: it tells the blocks of
    one module apart."""
    if len(name) > limit:
        name = _SEPARATOR.split(name[-_LONGEST_COMPONENT:])[-1] or name
    return shortened(name, limit)


def chart_label(name: str, limit: int) -> str:
    """A name for a chart, in characters that the plotting library's own font measures."""
    return "".join(c if ord(c) <= _LAST_LATIN or c == "…" else "?" for c in shortened(name, limit))
