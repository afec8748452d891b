"""What a block costs on a host, and how that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from partc.errors import PassError
from partc.ir.refinement import Refinement

Provenance = Literal["measured", "scaled", "imported", "estimated"]


@dataclass(frozen=True)
class Cost:
    """A time with what backs it.

    Attributes:
        median_s: seconds.
        spread_s: half the interquartile range, seconds.
        samples: how many runs the median is of; 0 for an estimate.
        provenance: ``scaled`` means measured here and multiplied by the host's ``slowdown``.
        measured_at: ISO 8601 time of the measurement, or empty.
        interval_s: half-width of the median's 95 % confidence interval, seconds; 0 where it is
            not known.
        settled: whether the measurement ended because it was precise enough, and not because
            its runs or its time were used up.
        fingerprint: hardware and backend it is valid for; empty where nobody said.
        source: where it comes from when partc did not measure it for this user: a file that it
            was imported from, or a data sheet.
    """

    median_s: float
    spread_s: float
    samples: int
    provenance: Provenance
    measured_at: str = ""
    interval_s: float = 0.0
    settled: bool = True
    fingerprint: str = ""
    source: str = ""

    def scaled(self, factor: float) -> Cost:
        """The cost on a host ``factor`` times slower."""
        if factor == 1.0:
            return self
        return replace(
            self,
            median_s=self.median_s * factor,
            spread_s=self.spread_s * factor,
            interval_s=self.interval_s * factor,
            provenance="scaled" if self.provenance == "measured" else self.provenance,
        )


@dataclass(frozen=True)
class MessageCost:
    """What a message costs on top of the link: framing, copies and the runtime's own work.

    Attributes:
        fixed_s: seconds for each message in one direction.
        s_per_byte: seconds for each byte of tensor data in it.
        exchange_fixed_s: seconds for each message that two hosts send each other while both work
            on the request, in place of ``fixed_s``; None where that was not measured.
        request_fixed_s: seconds that a request takes beyond its segments and messages.
    """

    fixed_s: float
    s_per_byte: float
    provenance: Provenance
    exchange_fixed_s: float | None = None
    request_fixed_s: float = 0.0


@dataclass(frozen=True)
class CostTable:
    """From (block, host) to a cost. A host that cannot run a block has no entry.

    Attributes:
        costs: block name -> host name -> cost.
        segment_fixed_s: host name -> seconds that running one more segment costs there.
        whole_s: host name -> measured (scaled) time of the whole model there, seconds.
        message: what a message costs on top of any link.
        corrections: tensor -> receiving host -> what its arrival there costs whatever its size,
            seconds, as measured segments showed.
        segments: (host, ops) -> what a segment costs there as a whole, where it was measured.
        refinement: how the corrections were found.
        precisions: host name -> in which precision its costs were measured or estimated; empty
            where a profile of another tool does not say.
    """

    costs: Mapping[str, Mapping[str, Cost]]
    segment_fixed_s: Mapping[str, float]
    whole_s: Mapping[str, float]
    message: MessageCost
    corrections: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    segments: Mapping[tuple[str, tuple[str, ...]], Cost] = field(default_factory=dict)
    refinement: Refinement | None = None
    precisions: Mapping[str, str] = field(default_factory=dict)

    def of(self, block: str, host: str) -> Cost:
        """The cost of ``block`` on ``host``.

        Raises:
            PassError: the host cannot run the block.
        """
        try:
            return self.costs[block][host]
        except KeyError:
            raise PassError(f"block {block!r} has no cost on host {host!r}", host=host) from None

    def supports(self, block: str, host: str) -> bool:
        """Whether ``host`` can run ``block``."""
        return host in self.costs.get(block, {})

    def provenances(self) -> set[Provenance]:
        """All kinds of provenance in the table."""
        return {cost.provenance for row in self.costs.values() for cost in row.values()}

    def __iter__(self) -> Iterator[tuple[str, str, Cost]]:
        for block, row in self.costs.items():
            for host, cost in row.items():
                yield block, host, cost
