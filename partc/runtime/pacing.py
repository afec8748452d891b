"""Accurate waiting, and how much a slower host would have waited."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from partc.targets.clocks import ClockKind, timed

_PR_SET_TIMERSLACK = 29
_TIMER_SLACK_NS = 1000

Result = TypeVar("Result")


def use_fine_timers() -> None:
    """Make this thread's sleeps end within microseconds of their time instead of 50 later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)


def sleep_until(moment_s: float) -> None:
    """Sleep until ``time.perf_counter()`` has reached ``moment_s``."""
    while (left_s := moment_s - time.perf_counter()) > 0:
        time.sleep(left_s)


def run_slowed(
    work: Callable[[], Result], slowdown: float, threads: int, clock: ClockKind = "caller"
) -> tuple[Result, float]:
    """Do ``work`` as a machine ``slowdown`` times slower would; the result and the seconds taken.

    With one thread the wait follows the CPU time of the work, so that other programs on this
    machine are not multiplied as well; with several threads only the wall time is known.

    Args:
        clock: where the work is done (`partc.targets.clocks`).
    """
    start_s = time.perf_counter()
    result, busy_s = timed(work, clock, threads)
    end_s = time.perf_counter()
    if slowdown > 1.0:
        use_fine_timers()
        sleep_until(end_s + (slowdown - 1.0) * busy_s)
        end_s = time.perf_counter()
    return result, end_s - start_s


@dataclass(frozen=True)
class Pace:
    """How fast a host works: its emulated slowdown, and the threads that it works with."""

    slowdown: float = 1.0
    threads: int = 1

    def run(self, work: Callable[[], Result]) -> Result:
        """Do ``work`` at this pace."""
        return run_slowed(work, self.slowdown, self.threads)[0]


NATIVE = Pace()
