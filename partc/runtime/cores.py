"""Cores of their own for the hosts that are emulated on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def cores_of_hosts(threads: Mapping[str, int], root: str) -> dict[str, tuple[int, ...]]:
    """Host -> the cores that it alone uses, as many as it has threads.

    Where there are not enough for all, ``root`` goes without, which waits while others work;
    where there are still not enough, or the system pins no processes, all do.
    """
    cores = _spread(usable_cores())
    others = {host: count for host, count in threads.items() if host != root}
    for wanted in (threads, others):
        if sum(wanted.values()) <= len(cores):
            left = iter(cores)
            return {host: tuple(next(left) for _ in range(n)) for host, n in wanted.items()}
    return {}


def usable_cores() -> tuple[int, ...]:
    """The cores that this thread may use; none where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def use_cores(cores: Iterable[int]) -> None:
    """Keep this thread, and threads and processes that it starts later, on ``cores``."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cores))


class OwnCores:
    """The cores of this thread, which can be given back."""

    def __init__(self) -> None:
        self._before: tuple[int, ...] = ()

    def take(self, cores: tuple[int, ...]) -> None:
        """Use these from now on; all of them stay as they are if there are none."""
        if cores:
            self._before = usable_cores()
            use_cores(cores)

    def give_back(self) -> None:
        """Use what was used before."""
        before, self._before = self._before, ()
        if before:
            use_cores(before)


def _spread(cores: tuple[int, ...]) -> list[int]:
    """Those that share no execution units first."""
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for core in cores:
        siblings = _siblings(core)
        (second if siblings in seen else first).append(core)
        seen.add(siblings)
    return first + second


def _siblings(core: int) -> str:
    try:
        return Path(_SIBLINGS.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return str(core)
