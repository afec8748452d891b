"""What went on beside a measurement, and how far it may be wrong for that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_MOST_ELSEWHERE = 0.25  # of the cores
_MOST_STOLEN = 0.02  # of the cores
_MOST_WAITED = 0.1
_MOST_STOPPED = 0.01
_MOST_CLOCK_CHANGE = 0.05
_ELSEWHERE_WEIGHT = 0.1  # what sharing caches and memory with a machine full of others costs


@dataclass(frozen=True)
class Conditions:
    """The state of a machine while something was measured on it; all zero: nothing to report.

    Attributes:
        cores: that this process may use.
        elsewhere: processors' worth of work of other processes on these cores.
        stolen: processors' worth that other virtual machines took.
        waited: share of the runs' time in which the thread that ran had no core.
        stopped: share of the time in which a quota on processor time (cgroup) held it.
        clock_change: of the cores' frequency from beginning to end, relative.
        throttled: how often a core was slowed for its temperature.
        temperature_c: of the hottest sensor in the end, degrees Celsius; None where none is read.
        drift: how the times changed from beginning to end, relative; 0 where no test finds a trend.
    """

    cores: int = 0
    elsewhere: float = 0.0
    stolen: float = 0.0
    waited: float = 0.0
    stopped: float = 0.0
    clock_change: float = 0.0
    throttled: int = 0
    temperature_c: float | None = None
    drift: float = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was found that makes costs doubtful."""
        return not any(self._findings())

    @property
    def doubt(self) -> float:
        """By which share of itself a time may be wrong, beyond what its samples show; 0 if quiet.

        Half of a drift, since the median lies in the middle of it; a change of clocks in full; and
        a tenth of the share of the machine that others used, for caches and memory.
        """
        if self.is_quiet:
            return 0.0
        busy = (self.elsewhere + self.stolen) / max(self.cores, 1)
        return max(
            abs(self.drift) / 2,
            abs(self.clock_change) if abs(self.clock_change) > _MOST_CLOCK_CHANGE else 0.0,
            _ELSEWHERE_WEIGHT * min(busy, 1.0),
            min(self.stopped, 1.0),
        )

    def sentence(self, where: str = "") -> str:
        """For people, with numbers; empty if nothing was found.

        Args:
            where: which machine; this one if empty.
        """
        found = list(self._findings())
        if not found:
            return ""
        machine = where or "this machine"
        return (
            f"{machine} was not quiet while it was measured: {', '.join(found)}; times may be "
            f"wrong by {100 * max(self.doubt, 0.01):.0f} % more than their spread says, so measure "
            "again when it is quiet, with --fresh"
        )

    def _findings(self) -> Iterator[str]:
        cores = max(self.cores, 1)
        if self.elsewhere > _MOST_ELSEWHERE * cores:
            yield (
                f"other processes used {self.elsewhere:.1f} of its {cores} "
                f"core{'s' if cores > 1 else ''}"
            )
        if self.stolen > _MOST_STOLEN * cores:
            yield f"other virtual machines took {100 * self.stolen / cores:.0f} % of its time"
        if self.waited > _MOST_WAITED:
            yield f"runs waited for a core for {100 * self.waited:.0f} % of their time"
        if self.stopped > _MOST_STOPPED:
            yield f"a quota on processor time stopped it for {100 * self.stopped:.0f} % of the time"
        if self.throttled:
            hot = f" at {self.temperature_c:.0f} °C" if self.temperature_c is not None else ""
            times = "once" if self.throttled == 1 else f"{self.throttled} times"
            yield f"it was slowed for its temperature {times}{hot}"
        if abs(self.clock_change) > _MOST_CLOCK_CHANGE:
            yield f"its clock changed by {100 * self.clock_change:+.0f} %"
        if self.drift:
            yield f"times drifted by {100 * self.drift:+.0f} % from beginning to end"
