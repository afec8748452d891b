"""Which share of the rows each host gets: a few vectors worth trying, and the best split."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from partc.errors import UsageError

_STEP = 1 / 32  # of all rows, by which candidates differ from the best split


def water_filling(
    fixed_s: Sequence[float], seconds_per_row: Sequence[float], rows: float
) -> tuple[float, ...]:
    """Rows per host that end all at the same time, where host k needs fixed + rows x seconds.

    A host whose fixed seconds are above that time gets none; no split ends earlier.

    Raises:
        UsageError: the lists differ in length, or a value makes no sense.
    """
    _check(fixed_s, seconds_per_row, rows)
    order = sorted(range(len(fixed_s)), key=lambda host: fixed_s[host])
    rate = filled = 0.0  # rows per second of the hosts at work, and rows they lack at time 0
    level_s = math.inf
    for place, host in enumerate(order):
        rate += 1.0 / seconds_per_row[host]
        filled += fixed_s[host] / seconds_per_row[host]
        level_s = (rows + filled) / rate
        if place + 1 == len(order) or level_s <= fixed_s[order[place + 1]]:
            break
    return tuple(
        max(0.0, (level_s - fixed) / per_row)
        for fixed, per_row in zip(fixed_s, seconds_per_row, strict=True)
    )


def best_rows(
    fixed_s: Sequence[float], seconds_per_row: Sequence[float], rows: int, *, least: int = 1
) -> tuple[int, ...]:
    """Whole rows per host, at least `least` each, whose slowest host is as early as can be.

    Raises:
        UsageError: there are fewer rows than that, or a value makes no sense.
    """
    _check(fixed_s, seconds_per_row, rows)
    hosts = range(len(fixed_s))
    if rows < least * len(hosts):
        raise UsageError(
            f"{rows} rows cannot be split over {len(hosts)} hosts with at least {least} each; name "
            "fewer hosts."
        )
    # From a little below what real numbers would give, one row after another: each to the host
    # that then ends first, which no other whole split beats.
    ideal = water_filling(fixed_s, seconds_per_row, rows)
    split = [max(least, math.floor(value) - 1) for value in ideal]
    while sum(split) > rows:
        ends = [
            fixed_s[host] + seconds_per_row[host] * split[host] if split[host] > least else -1.0
            for host in hosts
        ]
        split[ends.index(max(ends))] -= 1
    waiting = [(fixed_s[host] + seconds_per_row[host] * (split[host] + 1), host) for host in hosts]
    heapq.heapify(waiting)
    for _ in range(rows - sum(split)):
        end_s, host = heapq.heappop(waiting)
        split[host] += 1
        heapq.heappush(waiting, (end_s + seconds_per_row[host], host))
    return tuple(split)


def candidate_shares(
    speeds: Sequence[float], rows: int, *, fixed_s: Sequence[float] | None = None
) -> tuple[tuple[float, ...], ...]:
    """A few ways to share rows, the best for these speeds first; each adds up to 1.

    Args:
        speeds: rows per second of each host (any unit will do without `fixed_s`).
        rows: of the tensor where it is cut finest; every host gets at least one.
        fixed_s: what each host needs whatever its rows, such as a halo computed twice.

    Returns:
        The best split for a tile time of fixed_s + rows / speed, shares by speed, even shares, and
        the best split with a few rows moved between the fastest and the slowest host.

    Raises:
        UsageError: there are fewer rows than hosts, or a value makes no sense.
    """
    for speed in speeds:
        if not (speed > 0 and math.isfinite(speed)):
            raise UsageError(f"A host's speed must be above 0, but it is {speed}.")
    hosts = len(speeds)
    per_row = [1.0 / speed for speed in speeds]
    nothing = [0.0] * hosts
    best = best_rows(fixed_s or nothing, per_row, rows)
    found = [best, best_rows(nothing, per_row, rows), best_rows(nothing, [1.0] * hosts, rows)]
    fastest = max(range(hosts), key=lambda host: speeds[host])
    slowest = min(reversed(range(hosts)), key=lambda host: speeds[host])
    step = max(1, round(rows * _STEP))
    if fastest != slowest:
        for moved in (step, -step):
            split = list(best)
            split[fastest] += moved
            split[slowest] -= moved
            if min(split) >= 1:
                found.append(tuple(split))
    return tuple(tuple(part / rows for part in split) for split in dict.fromkeys(found))


def _check(fixed_s: Sequence[float], seconds_per_row: Sequence[float], rows: float) -> None:
    if len(fixed_s) != len(seconds_per_row) or not fixed_s:
        raise UsageError(
            f"Each host needs fixed seconds and seconds per row, but there are {len(fixed_s)} and "
            f"{len(seconds_per_row)}."
        )
    if not (rows > 0 and math.isfinite(rows)):
        raise UsageError(f"There must be rows to split, but there are {rows}.")
    for value in seconds_per_row:
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"The seconds per row must be above 0, but they are {value}.")
    for value in fixed_s:
        if not (value >= 0 and math.isfinite(value)):
            raise UsageError(f"The fixed seconds must be at least 0, but they are {value}.")
