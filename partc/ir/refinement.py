"""What measuring the segments of plans taught about their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RefinementRound:
    """One plan whose segments were measured.

    Attributes:
        placement: block -> host.
        predicted_s: latency by the costs of blocks and messages, as they were known then.
        measured_s: latency with the measured times of its segments.
        segments: how many it has.
    """

    placement: Mapping[str, str]
    predicted_s: float
    measured_s: float
    segments: int


@dataclass(frozen=True)
class Refinement:
    """The loop of solving, measuring and correcting.

    Attributes:
        outcome: ``settled`` when the best plan was measured and no other is predicted to beat it;
            ``budget`` when time ran out before; ``unmeasured`` when no segment could be measured.
        drift: how many times longer the whole model takes now than its costs say.
    """

    rounds: tuple[RefinementRound, ...]
    outcome: Literal["settled", "budget", "unmeasured"]
    spent_s: float
    drift: float
