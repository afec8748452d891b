"""Measures until it is known well enough: warm-up, runs between pauses, and what went on beside."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from partc.measure.conditions import Conditions
from partc.measure.machine import between, snapshot
from partc.measure.pinning import allowed_cpus
from partc.measure.statistics import is_warm, trend
from partc.measure.stopping import FEWEST_RUNS, StoppingRule

_FEWEST_WARMUP, _MOST_WARMUP = 3, 20
_WARMUP_SHARE = 0.25  # of the budget
_OVERHEAD_S = 2e-4  # of a run, between the clocks


@dataclass(frozen=True)
class Measurement:
    """The samples of one measurement.

    Attributes:
        samples_s: seconds of each run that counts.
        first_run: how many runs came before these: the warm-up, and rounds that were given up
            because the machine was busy.
        settled: whether it ended because the median is known precisely enough.
    """

    samples_s: tuple[float, ...]
    first_run: int
    settled: bool
    conditions: Conditions


def measure(
    run: Callable[[], float],
    rule: StoppingRule,
    pause_s: float = 0.0,
    *,
    beside: Callable[[], object] | None = None,
) -> Measurement:
    """Take samples until ``rule`` ends it.

    Where the machine was busy, and runs and time are left, another round is measured and the
    quieter of both counts.

    Args:
        run: runs once, and gives the seconds that count of it.
        pause_s: idle time before each run.
        beside: runs something else once, between two runs and after each run of the warm-up, so
            that both see the same conditions.
    """
    session = _Session(run, beside, pause_s)
    begun_s = time.perf_counter()
    session.warm_up(rule.budget_s * _WARMUP_SHARE)
    best: Measurement | None = None
    runs_left = max(rule.repeats, FEWEST_RUNS)
    while True:
        round_begun_s = time.perf_counter()
        left_s = rule.budget_s - (round_begun_s - begun_s)
        part = StoppingRule(rule.precision, runs_left, left_s)
        found = session.round(part)
        runs_left -= len(found.samples_s)
        if best is None or found.conditions.doubt < best.conditions.doubt:
            best = found
        took_s = time.perf_counter() - round_begun_s
        left_s -= took_s
        if found.conditions.is_quiet or runs_left < len(found.samples_s) or left_s < took_s:
            return best


class _Session:
    def __init__(
        self, run: Callable[[], float], beside: Callable[[], object] | None, pause_s: float
    ) -> None:
        self._run = run
        self._beside = beside
        self._pause_s = pause_s
        self._runs = 0

    def _once(self) -> float:
        self._runs += 1
        return self._run()

    def warm_up(self, budget_s: float) -> None:
        """Run until runs stop getting faster."""
        begun_s = time.perf_counter()
        samples: list[float] = []
        while len(samples) < _MOST_WARMUP:
            samples.append(self._once())
            if self._beside is not None:
                self._beside()
            spent = time.perf_counter() - begun_s > budget_s
            if spent or (len(samples) >= _FEWEST_WARMUP and is_warm(samples)):
                return

    def round(self, rule: StoppingRule) -> Measurement:
        """One series of samples."""
        first_run = self._runs
        before = snapshot(allowed_cpus())
        samples: list[float] = []
        wall_s = 0.0
        verdict = "go on"
        while verdict == "go on":
            time.sleep(self._pause_s)
            started_s = time.perf_counter()
            samples.append(self._once())
            wall_s += time.perf_counter() - started_s
            if self._beside is not None:
                time.sleep(self._pause_s)
                self._beside()
            verdict = rule.verdict(samples, time.perf_counter() - before.at_s)
        found = trend(samples)
        drifts = found.is_certain and abs(found.change) > rule.precision
        waited_s = wall_s - float(np.sum(samples)) - _OVERHEAD_S * len(samples)
        conditions = between(
            before,
            snapshot(allowed_cpus()),
            waited=max(0.0, waited_s / wall_s) if wall_s > 0 else 0.0,
            drift=found.change if drifts else 0.0,
        )
        return Measurement(tuple(samples), first_run, verdict == "settled", conditions)
