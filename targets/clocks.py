"""Which clock tells how long a backend really worked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

ClockKind = Literal["caller", "process", "wall"]
"""Where a backend computes: in the thread that calls it, in threads of its own, or elsewhere, such
as on a GPU."""

Result = TypeVar("Result")


def clock_of(runner: object) -> ClockKind:
    """What a loaded segment declares as ``clock``; wall time, which is never wrong, if nothing."""
    match getattr(runner, "clock", "wall"):
        case "caller":
            return "caller"
        case "process":
            return "process"
        case _:
            return "wall"


def timed(
    work: Callable[[], Result], clock: ClockKind = "caller", threads: int = 1
) -> tuple[Result, float]:
    """Do ``work``; its result, and the seconds that it kept the hardware busy.

    On a processor with one thread that is CPU time: waiting for a core while other programs have
    it is no cost of the model. CPU time of the whole process may hold work of other threads, so it
    counts up to the wall time only. With several threads only the wall time is known.
    """
    started_s = time.perf_counter()
    process_s, thread_s = time.process_time(), time.thread_time()
    result = work()
    thread_s, process_s = time.thread_time() - thread_s, time.process_time() - process_s
    wall_s = time.perf_counter() - started_s
    if threads != 1 or clock == "wall":
        return result, wall_s
    return result, thread_s if clock == "caller" else min(process_s, wall_s)
