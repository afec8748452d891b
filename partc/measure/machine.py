"""Reads what a Linux machine is busy with, and how fast and hot it is, from /proc and /sys.

Nothing here fails: what a machine (or a container) does not show counts as not happening.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from partc.measure.conditions import Conditions

ROOT = Path("/")
_SHORTEST_S = 0.25  # the kernel counts in hundredths of a second
_CPUS = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; seconds since the machine or the process started.

    Attributes:
        busy_s, stolen_s: of the cores that this process may use, together.
        own_s: of this process and its ended children, on any core.
        stopped_s: for which a quota held this process's group.
        clock_khz: of these cores, mean; None where unknown.
        throttled: number of times that these cores were slowed for their temperature.
    """

    at_s: float
    cores: int
    busy_s: float
    stolen_s: float
    own_s: float
    stopped_s: float
    clock_khz: float | None
    throttled: int
    temperature_c: float | None


def usable_cpus() -> frozenset[int]:
    """The processors that this thread may use."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return frozenset(range(os.cpu_count() or 1))


def snapshot(cpus: Collection[int] | None = None, root: Path = ROOT) -> Snapshot:
    """The counters now.

    Args:
        cpus: to look at; those that this thread may use if None.
        root: where /proc and /sys are.
    """
    chosen = usable_cpus() if cpus is None else frozenset(cpus)
    busy_s, stolen_s = _processor_times_s(root, chosen)
    times = os.times()
    return Snapshot(
        at_s=time.perf_counter(),
        cores=len(chosen),
        busy_s=busy_s,
        stolen_s=stolen_s,
        own_s=times.user + times.system + times.children_user + times.children_system,
        stopped_s=_stopped_s(root),
        clock_khz=_mean(_each(root, chosen, "cpufreq/scaling_cur_freq")),
        throttled=int(sum(_each(root, chosen, "thermal_throttle/core_throttle_count"))),
        temperature_c=_temperature_c(root),
    )


def between(
    before: Snapshot, after: Snapshot, *, waited: float = 0.0, drift: float = 0.0
) -> Conditions:
    """What happened between two snapshots of the same cores."""
    took_s = after.at_s - before.at_s
    own_s = after.own_s - before.own_s
    counted = took_s >= _SHORTEST_S
    elsewhere_s = max(0.0, after.busy_s - before.busy_s - own_s) if counted else 0.0
    stolen_s = max(0.0, after.stolen_s - before.stolen_s) if counted else 0.0
    stopped_s = max(0.0, after.stopped_s - before.stopped_s) if counted else 0.0
    clock_change = 0.0
    if before.clock_khz and after.clock_khz:
        clock_change = after.clock_khz / before.clock_khz - 1
    return Conditions(
        cores=after.cores,
        elsewhere=elsewhere_s / took_s if counted else 0.0,
        stolen=stolen_s / took_s if counted else 0.0,
        waited=waited,
        stopped=min(1.0, stopped_s / took_s) if counted else 0.0,
        clock_change=clock_change,
        throttled=max(0, after.throttled - before.throttled),
        temperature_c=after.temperature_c,
        drift=drift,
    )


def _processor_times_s(root: Path, cpus: Collection[int]) -> tuple[float, float]:
    """Busy and stolen seconds of ``cpus`` since the start."""
    busy = stolen = 0
    for line in _lines(root / "proc/stat"):
        name, *fields = line.split()
        if not name.startswith("cpu") or not name[3:].isdecimal() or int(name[3:]) not in cpus:
            continue
        numbers = [int(field) for field in fields if field.isdecimal()]
        numbers += [0] * (8 - len(numbers))
        user, nice, system, _idle, _waiting, interrupts, soft, steal = numbers[:8]
        busy += user + nice + system + interrupts + soft
        stolen += steal
    return busy / _ticks_per_s(), stolen / _ticks_per_s()


def _ticks_per_s() -> float:
    try:
        return float(os.sysconf("SC_CLK_TCK"))
    except (AttributeError, ValueError, OSError):
        return 100.0


def _stopped_s(root: Path) -> float:
    """From the cgroup that the process is in, of version 2 or 1."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            folders = [root / "sys/fs/cgroup" / group.strip().lstrip("/")]
        elif "cpu" in controllers.split(","):
            folders = [
                root / "sys/fs/cgroup" / name / group.strip().lstrip("/")
                for name in (controllers, "cpu")
            ]
        else:
            continue
        # Within a container its own group is mounted as the root of the tree.
        for folder in (*folders, root / "sys/fs/cgroup"):
            for entry in _lines(folder / "cpu.stat"):
                key, _, value = entry.partition(" ")
                if value.strip().isdecimal():
                    if key == "throttled_usec":
                        return int(value) * 1e-6
                    if key == "throttled_time":
                        return int(value) * 1e-9
    return 0.0


def _temperature_c(root: Path) -> float | None:
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    found = [value / 1000 for zone in _sorted(zones) for value in _numbers(zone)]
    plausible = [value for value in found if -50 < value < 200]
    return max(plausible, default=None)


def _each(root: Path, cpus: Collection[int], name: str) -> list[float]:
    return [value for cpu in sorted(cpus) for value in _numbers(root / _CPUS / f"cpu{cpu}" / name)]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _numbers(path: Path) -> Iterator[float]:
    for line in _lines(path):
        try:
            yield float(line)
        except ValueError:
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _sorted(paths: Iterator[Path]) -> list[Path]:
    try:
        return sorted(paths)
    except OSError:
        return []
