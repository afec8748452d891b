"""Measures a link: bandwidth by the slope over several sizes, and never bytes over time.

A message of n bytes takes fixed + rtt / 2 + n x slope. Dividing bytes by time would mix the three;
the slope over sizes does not, and Theil and Sen's estimate of it, the median of the slopes of all
pairs, is not moved by the few messages that something held up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

SMALL_BYTES = 1 << 10
FIRST_LARGE_BYTES = 1 << 14
LARGEST_BYTES = 4 << 20

_WANTED_SHARE = 6.0
"""The largest message takes so many times as long as the smallest: its bytes outweigh the rest."""

_LONGEST_MESSAGE_S = 1.0
_STEPS = 5
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 40
_FEWEST_PINGS, _MOST_PINGS = 10, 50

Send = Callable[[int], float]
"""Sends a message of so many bytes; the seconds of its round trip."""


@dataclass(frozen=True)
class Fit:
    """A line through times of messages.

    Attributes:
        at_zero_s: what a message without bytes takes, seconds.
        s_per_byte: what each byte adds.
        spread: half the interquartile range of the pairs' slopes, relative to ``s_per_byte``.
    """

    at_zero_s: float
    s_per_byte: float
    spread: float


@dataclass(frozen=True)
class Way:
    """One direction of a link.

    Attributes:
        s_per_byte: all that a byte takes from tensor to tensor, on the link and at both ends.
        handling_s_per_byte: the ends' share of that.
        mbit_s: bandwidth of the link alone, 10^6 bits per second; None where the ends take longer
            than the link, which then only has a lower bound.
        at_least_mbit_s: bandwidth with everything counted.
        largest_bytes: that were sent at once.
    """

    s_per_byte: float
    handling_s_per_byte: float
    mbit_s: float | None
    at_least_mbit_s: float
    spread: float
    largest_bytes: int
    samples: int


@dataclass(frozen=True)
class LinkFound:
    """A measured link, seconds.

    Attributes:
        up, down: to the other end, and back.
        rtt_s: of an empty message, without what the ends do with one.
        fixed_s: what one message costs at both ends together, whatever its size.
        jitter_s: median of how far two round trips in a row differ.
    """

    up: Way
    down: Way
    rtt_s: float
    fixed_s: float
    jitter_s: float
    pings: int


def theil_sen(points: Sequence[tuple[int, float]]) -> Fit:
    """The line through (bytes, seconds).

    Args:
        points: at least two of them with different sizes.
    """
    medians = [
        (size, statistics.median([s for n, s in points if n == size]))
        for size in sorted({n for n, _ in points})
    ]
    slopes = sorted((s2 - s1) / (n2 - n1) for (n1, s1), (n2, s2) in combinations(medians, 2))
    slope = max(0.0, statistics.median(slopes))
    low, high = np.percentile(slopes, [25, 75])
    at_zero_s = statistics.median([s - slope * n for n, s in medians])
    spread = float(high - low) / 2 / slope if slope > 0 else 0.0
    return Fit(max(0.0, at_zero_s), slope, spread)


def way_from(fit: Fit, handling_s_per_byte: float, largest_bytes: int, samples: int) -> Way:
    """One direction, from the line through its messages' times."""
    # Where larger messages took no longer, all that the largest one took bounds what a byte takes.
    s_per_byte = fit.s_per_byte or max(fit.at_zero_s / largest_bytes, 8e-15)
    link_s_per_byte = fit.s_per_byte - handling_s_per_byte
    # Below that, the difference of two measured numbers is mostly their errors.
    is_known = link_s_per_byte > max(0.1, fit.spread) * s_per_byte
    return Way(
        s_per_byte=fit.s_per_byte,
        handling_s_per_byte=handling_s_per_byte,
        mbit_s=8e-6 / link_s_per_byte if is_known else None,
        at_least_mbit_s=8e-6 / s_per_byte,
        spread=fit.spread,
        largest_bytes=largest_bytes,
        samples=samples,
    )


def measure_way(
    send: Send, budget_s: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[tuple[int, float]], int]:
    """Times of messages of several sizes, interleaved, and the largest size.

    The sizes grow until their bytes outweigh all else, so that a fast link is measured with
    megabytes and a slow one does not take minutes.
    """
    end_s = clock() + budget_s
    for _ in range(3):
        small_s = send(SMALL_BYTES)
    largest = FIRST_LARGE_BYTES
    took_s = send(largest)
    while took_s < _WANTED_SHARE * small_s and largest < LARGEST_BYTES:
        if took_s > _LONGEST_MESSAGE_S or clock() + 2 * took_s > end_s:
            break
        largest *= 2
        took_s = send(largest)
    sizes = [SMALL_BYTES, *(largest * step // _STEPS for step in range(1, _STEPS + 1))]
    points: list[tuple[int, float]] = []
    for number in range(_MOST_ROUNDS):
        if number >= _FEWEST_ROUNDS and clock() > end_s:
            break
        points += [(size, send(size)) for size in sizes]
    return points, largest


def jitter_s(samples_s: Sequence[float]) -> float:
    """Median of how far two in a row differ, seconds."""
    steps = [abs(b - a) for a, b in pairwise(samples_s)]
    return statistics.median(steps) if steps else 0.0


def measure_link(
    up: Send,
    down: Send,
    ping: Callable[[], float],
    handling_s_per_byte: tuple[float, float],
    budget_s: float,
) -> LinkFound:
    """Both directions and the round trip.

    Args:
        up: sends bytes there, and gets an answer of a few.
        down: asks for bytes with a message of a few.
        handling_s_per_byte: what a byte takes at both ends of ``up``, and of ``down``.
    """
    share_s = budget_s / 3
    pings: list[float] = []
    end_s = time.perf_counter() + share_s
    while len(pings) < _MOST_PINGS:
        if len(pings) >= _FEWEST_PINGS and time.perf_counter() > end_s:
            break
        pings.append(ping())
    ways: list[Way] = []
    small: list[float] = []
    for send, handling in zip((up, down), handling_s_per_byte, strict=True):
        points, largest = measure_way(send, share_s)
        fit = theil_sen(points)
        ways.append(way_from(fit, handling, largest, len(points)))
        small.append(fit.at_zero_s)
    rtt_s = statistics.median(pings)
    return LinkFound(
        up=ways[0],
        down=ways[1],
        rtt_s=rtt_s,
        fixed_s=max(0.0, (statistics.median(small) - rtt_s) / 2),
        jitter_s=jitter_s(pings),
        pings=len(pings),
    )


def topology_entry(found: LinkFound, one: str, other: str) -> str:
    """The ``[[links]]`` entry of a topology, to paste."""
    lines = ["[[links]]", f'between = ["{one}", "{other}"]']
    for key, way in (("uplink_mbit_s", found.up), ("downlink_mbit_s", found.down)):
        value = way.mbit_s if way.mbit_s is not None else way.at_least_mbit_s
        note = "" if way.mbit_s is not None else "  # or more: the ends take longer than the link"
        lines.append(f"{key} = {value:.4g}{note}")
    lines.append(f"rtt_ms = {found.rtt_s * 1e3:.4g}")
    lines.append(f"fixed_ms = {found.fixed_s * 1e3:.4g}")
    return "\n".join(lines)
