"""Keeps a measurement on processors of its own choice.

Pinning binds the thread that measures, and the threads that it starts meanwhile, to as many of the
processors that it may use as it has threads: first the one that it runs on, then such as share no
core with those chosen. A run then never pays for a move to a processor with cold caches. It keeps
nobody else off these processors, and changes nothing for other threads or afterwards.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from pathlib import Path

from partc.measure.machine import ROOT, usable_cpus

_BEFORE: ContextVar[frozenset[int] | None] = ContextVar("before", default=None)


def allowed_cpus() -> frozenset[int]:
    """The processors that this thread may use, or could before it was bound."""
    return _BEFORE.get() or usable_cpus()


@contextlib.contextmanager
def pinned(threads: int, root: Path = ROOT) -> Iterator[frozenset[int]]:
    """Bind this thread to ``threads`` processors; gives those that it may use then.

    Where the system forbids it, as some containers do, or has not more processors than threads,
    nothing is bound.
    """
    usable = usable_cpus()
    chosen = choose_cpus(usable, threads, root)
    if chosen == usable or not _bind(chosen):
        yield usable
        return
    token = _BEFORE.set(usable)
    try:
        yield chosen
    finally:
        _BEFORE.reset(token)
        _bind(usable)


def choose_cpus(usable: Collection[int], threads: int, root: Path = ROOT) -> frozenset[int]:
    """As many of ``usable`` as there are threads, on different cores where there are enough."""
    if threads >= len(usable):
        return frozenset(usable)
    here = _current_cpu(root)
    order = sorted(usable, key=lambda cpu: (cpu != here, cpu))
    seen: set[tuple[int, ...]] = set()
    first: list[int] = []
    second: list[int] = []
    for cpu in order:
        core = _siblings(cpu, root)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return frozenset((first + second)[:threads])


def _bind(cpus: Collection[int]) -> bool:
    try:
        os.sched_setaffinity(0, cpus)
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _current_cpu(root: Path) -> int | None:
    """Where this thread runs now: field 39 of its stat."""
    try:
        text = (root / "proc/thread-self/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None


def _siblings(cpu: int, root: Path) -> tuple[int, ...]:
    """The processors of one core; ``cpu`` alone where that is not known."""
    path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        numbers = path.read_text(encoding="utf-8").strip().replace("-", ",").split(",")
        return tuple(sorted({int(number) for number in numbers}))
    except (OSError, ValueError):
        return (cpu,)
