"""When to stop measuring: the median is known well enough, or there is no more time for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from partc.measure.statistics import PRECISION, is_settled, trend

Verdict = Literal["go on", "settled", "spent"]

FEWEST_RUNS = 3
_FEWEST_TO_SETTLE = 12
_SHORTEST_S = 0.4  # what a machine does now and then is not seen in less
_LOOK_EVERY = 1.2


@dataclass(frozen=True)
class StoppingRule:
    """Measure until the median is known to ``precision``, but not for ever.

    Attributes:
        precision: half-width of the median's 95 % confidence interval over the median.
        repeats: runs after which it ends in any case.
        budget_s: seconds after which it ends, but not before 3 runs.
    """

    precision: float = PRECISION
    repeats: int = 100
    budget_s: float = 8.0

    def verdict(self, samples_s: Sequence[float], elapsed_s: float) -> Verdict:
        """What to do after these samples.

        ``settled``: precise enough, and no trend in them. ``spent``: not that, and runs or
        seconds have been used up. The samples are looked at now and then only: who looks after
        every run stops at the first lucky streak.
        """
        count = len(samples_s)
        last = count >= max(self.repeats, FEWEST_RUNS) or (
            count >= FEWEST_RUNS and elapsed_s >= self.budget_s
        )
        if last or (_is_time_to_look(count) and elapsed_s >= _SHORTEST_S):
            if self.is_met(samples_s):
                return "settled"
            return "spent" if last else "go on"
        return "go on"

    def is_met(self, samples_s: Sequence[float]) -> bool:
        """Whether the samples are precise enough and do not drift."""
        if not is_settled(samples_s, self.precision):
            return False
        found = trend(samples_s)
        return not (found.is_certain and abs(found.change) > self.precision)


def _is_time_to_look(count: int) -> bool:
    look = _FEWEST_TO_SETTLE
    while look < count:
        look = int(look * _LOOK_EVERY) + 1
    return look == count
