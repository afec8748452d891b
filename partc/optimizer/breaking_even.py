"""From which bandwidth on another host pays, and where a real split does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from partc.errors import UsageError
from partc.optimizer.codec_choice import best_codecs
from partc.optimizer.evaluation import evaluate
from partc.optimizer.problem import Problem
from partc.optimizer.routes import routes_are_open
from partc.optimizer.simple_plans import device_of
from partc.optimizer.solving import solve_fast

_SAME = 1e-7  # relative difference of costs that counts as none
_MOST_STEPS = 200
_S_PER_BYTE_TIMES_MBIT = 8e-6
_SLOWEST_MBIT_S = 1e-9  # one bit in a quarter of an hour
_SLOWEST_S_PER_BYTE = _S_PER_BYTE_TIMES_MBIT / _SLOWEST_MBIT_S


@dataclass(frozen=True)
class BreakEven:
    """Where splitting or moving pays, in megabits per second.

    Attributes:
        bandwidth_mbit_s: the smallest bandwidth above which some plan that uses another host
            beats device-only; 0 when the device alone is never an option or never best; None when
            device-only is best even with an infinite bandwidth.
        split_mbit_s: ranges (from, to) in which a plan with ops on several hosts is better than
            every host alone; `to` may be infinite.
    """

    bandwidth_mbit_s: float | None
    split_mbit_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Line:
    """A plan's cost: start + slope * seconds per byte."""

    start: float
    slope: float
    hosts: frozenset[str]

    def at(self, s_per_byte: float) -> float:
        return self.start + self.slope * s_per_byte


def break_even(problem_at: Callable[[float], Problem]) -> BreakEven:
    """The exact break-even bandwidth, by Newton steps over plans (Dinkelbach's method).

    Args:
        problem_at: the problem at a bandwidth in Mbit/s, which may be infinite. Only the seconds
            per byte may depend on the bandwidth, in proportion to its inverse; so a plan's cost is
            a line in seconds per byte. Exact for latency and energy without deadline or energy
            budget (those make a plan's feasibility depend on the bandwidth).

    Raises:
        InfeasibleError: no placement satisfies the constraints.
        UsageError: links close rings, and the problem does not say which routes are taken.
    """
    return _Search(problem_at).run()


class _Search:
    def __init__(self, problem_at: Callable[[float], Problem]) -> None:
        self.problem_at = problem_at
        self.at_infinity = problem_at(math.inf)
        self.at_one = problem_at(1.0)
        self.device = device_of(self.at_infinity)
        if routes_are_open(self.at_one):
            raise UsageError(
                "Where links close rings, the cheapest routes change with the bandwidth; give the "
                "problem's routes between all hosts to find a break-even."
            )

    def run(self) -> BreakEven:
        device_line = self._single_host_line(self.device, 0.0)
        first = self._best_line(0.0)
        if device_line is not None and first.at(0.0) >= device_line.at(0.0) * (1 - _SAME):
            return BreakEven(None, ())
        s_per_byte = math.inf if device_line is None else self._newton(first, device_line)
        if math.isinf(s_per_byte):
            return BreakEven(
                0.0, self._split_ranges(first, self._last_change(first), open_end=True)
            )
        bandwidth = _S_PER_BYTE_TIMES_MBIT / s_per_byte
        return BreakEven(bandwidth, self._split_ranges(first, s_per_byte, open_end=False))

    def _newton(self, line: _Line, device: _Line) -> float:
        """The largest seconds per byte up to which some plan beats the device.

        The device's own transfers may want other codecs elsewhere, so its line changes, too.
        """
        for _ in range(_MOST_STEPS):
            if line.slope <= device.slope:
                device = self._single_host_line(self.device, _SLOWEST_S_PER_BYTE) or device
                if line.slope <= device.slope:
                    return math.inf
            crossing = (device.start - line.start) / (line.slope - device.slope)
            there = self._single_host_line(self.device, crossing) or device
            if there.at(crossing) < device.at(crossing) * (1 - _SAME):
                device = there
                continue
            better = self._best_line(crossing)
            if better.at(crossing) >= device.at(crossing) * (1 - _SAME):
                return crossing
            line = better
        return crossing

    def _best_line(self, s_per_byte: float) -> _Line:
        plan = solve_fast(self._problem_at(s_per_byte)).require_plan()
        return self._line_of(plan.placement, plan.codecs)

    def _line_of(
        self, placement: Mapping[str, str], codecs: Mapping[tuple[str, str, str], str]
    ) -> _Line:
        start = evaluate(self.at_infinity, placement, codecs).objective
        later = evaluate(self.at_one, placement, codecs).objective
        hosts = frozenset(placement.values())
        return _Line(start, (later - start) / _S_PER_BYTE_TIMES_MBIT, hosts)

    def _problem_at(self, s_per_byte: float) -> Problem:
        bandwidth = math.inf if s_per_byte == 0 else _S_PER_BYTE_TIMES_MBIT / s_per_byte
        return self.problem_at(bandwidth)

    def _single_host_line(self, host: str, s_per_byte: float) -> _Line | None:
        """A host alone, with the codecs that are best there."""
        placement = {op.name: host for op in self.at_infinity.ops}
        if evaluate(self.at_infinity, placement).objective == math.inf:
            return None
        codecs = best_codecs(self._problem_at(s_per_byte), placement)
        if codecs is None:
            return None
        return self._line_of(placement, codecs)

    def _last_change(self, first: _Line) -> float:
        """Seconds per byte beyond which one plan, the flattest, stays best."""
        flattest = self._best_line(_SLOWEST_S_PER_BYTE)
        if first.slope <= flattest.slope:
            return 1.0
        return 1.0 + max(
            [
                *self._corners(first, flattest, 0.0, _SLOWEST_S_PER_BYTE),
                0.0,
            ]
        )

    def _split_ranges(
        self, first: _Line, end: float, *, open_end: bool
    ) -> tuple[tuple[float, float], ...]:
        """Ranges of the lower envelope on [0, end] that no single host reaches."""
        corners = sorted({0.0, end, *self._corners(first, self._best_line(end), 0.0, end)})
        # Between two corners one plan is best, so looking at the middle settles the whole range.
        ranges: list[tuple[float, float]] = []
        for low, high in itertools.pairwise(corners):
            middle = (low + high) / 2
            line = self._best_line(middle)
            best = line.at(middle)
            singles = (self._single_host_line(host, middle) for host in self.at_infinity.host_names)
            if len(line.hosts) == 1 or any(
                single is not None and single.at(middle) <= best * (1 + _SAME) for single in singles
            ):
                continue
            if ranges and ranges[-1][1] == low:
                ranges[-1] = (ranges[-1][0], high)
            else:
                ranges.append((low, high))
        return tuple(
            (
                0.0 if open_end and high == end else _S_PER_BYTE_TIMES_MBIT / high,
                math.inf if low == 0 else _S_PER_BYTE_TIMES_MBIT / low,
            )
            for low, high in reversed(ranges)
        )

    def _corners(self, left: _Line, right: _Line, low: float, high: float) -> list[float]:
        """Where the lower envelope changes plan between two points (Eisner and Severance, 1976)."""
        if left.slope <= right.slope * (1 + 1e-12):
            return []
        crossing = (right.start - left.start) / (left.slope - right.slope)
        if not low < crossing < high:
            return []
        middle = self._best_line(crossing)
        if middle.at(crossing) >= left.at(crossing) * (1 - _SAME):
            return [crossing]
        return [
            *self._corners(left, middle, low, crossing),
            *self._corners(middle, right, crossing, high),
        ]
