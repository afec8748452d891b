"""Which parts of a segment a builder refuses, by building parts of it. Search alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MOST_TRIALS = 64
"""Builds that are spent on one segment; they take a second each, or minutes."""

Unit = tuple[str, ...]
"""Ops that are placed together."""

Why = Callable[[Sequence[str]], str]
"""Why ops cannot be built by themselves; empty if they can."""


@dataclass(frozen=True)
class Culprit:
    """Ops that cannot be built; where there are several, none of them is known to be the one."""

    ops: tuple[str, ...]
    reason: str


def culprits(units: Sequence[Unit], said: str, why: Why, most: int = MOST_TRIALS) -> list[Culprit]:
    """What makes a segment impossible to build.

    What the builder names is tried first, by itself, and then all the rest without it: some ops
    are refused only beside others. If that is not it, the segment is halved again and again.
    Parts that can be built one by one, and not together, are the culprit together.

    Args:
        units: of the segment, in the order in which they run.
        said: by the builder, of the whole segment.
        most: trial builds; when they are spent, what is left is the culprit as a whole.
    """
    return _Search(why, most).among(list(units), said)


class _Search:
    def __init__(self, why: Why, most: int) -> None:
        self._why = why
        self._left = most

    def among(self, units: list[Unit], said: str) -> list[Culprit]:
        named = [unit for unit in units if names_one_of(said, unit)]
        if not named or len(named) == len(units):
            return self._halved(units, said)
        found: list[Culprit] = []
        for unit in named:
            if reason := self._tried(unit):
                found += self._within(unit, reason)
        if found:
            return found
        rest = _ops(unit for unit in units if unit not in named)
        if self._left > 0 and not self._tried(rest):
            return [Culprit(tuple(op for op in _ops(named) if names_one_of(said, (op,))), said)]
        return self._halved(units, said)

    def _halved(self, units: list[Unit], reason: str) -> list[Culprit]:
        """Of units that are known not to build together."""
        if len(units) == 1:
            return self._within(units[0], reason)
        middle = len(units) // 2
        found: list[Culprit] = []
        for half in (units[:middle], units[middle:]):
            if self._left > 0 and (why := self._tried(_ops(half))):
                found += self._halved(half, why)
        return found or [Culprit(_ops(units), reason)]

    def _within(self, unit: Unit, reason: str) -> list[Culprit]:
        """The ops of a unit that is known not to build."""
        if len(unit) > 1:
            named = [op for op in unit if names_one_of(reason, (op,))] or unit
            for op in named:
                if self._left > 0 and (why := self._tried((op,))):
                    return [Culprit((op,), why)]
        return [Culprit(unit, reason)]

    def _tried(self, ops: Sequence[str]) -> str:
        if self._left <= 0:
            return ""
        self._left -= 1
        return self._why(ops)


def names_one_of(said: str, ops: Iterable[str]) -> bool:
    """Whether a builder's sentence has the name of an op in it, and not as a part of another."""
    return any(re.search(rf"(?<![\w/]){re.escape(op)}(?![\w/])", said) for op in ops)


def _ops(units: Iterable[Unit]) -> tuple[str, ...]:
    return tuple(op for unit in units for op in unit)
