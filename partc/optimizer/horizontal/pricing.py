"""What every way to enter every arc costs, computed with arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partc.optimizer.horizontal.problem import Arc, HorizontalProblem, Tiling
from partc.optimizer.horizontal.routes import HorizontalRoutes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Traffic:
    """Messages between pairs of hosts: bytes of `rows` x `pairs`; 0 bytes are no message."""

    pairs: tuple[Pair, ...]
    bytes: Floats


@dataclass(frozen=True)
class Options:
    """Ways to enter arcs of one tiling from one place.

    Attributes:
        tiling: of the arcs.
        source: host on which the entry is whole, or tiling in which it is.
        arcs: positions in `problem.arcs`.
        exchange_s, slowest_s: per arc, seconds until all tiles have what they need, and of the
            slowest tile.
        tile_s: per arc and tile.
        traffic: one row per arc.
    """

    tiling: Tiling
    source: str
    arcs: Integers
    exchange_s: Floats
    slowest_s: Floats
    tile_s: Floats
    traffic: Traffic


def arc_options(problem: HorizontalProblem, routes: HorizontalRoutes) -> list[Options]:
    """Every way to enter every arc, whether constraints allow it or not."""
    of_tiling: dict[str, list[int]] = {tiling.name: [] for tiling in problem.tilings}
    for position, arc in enumerate(problem.arcs):
        of_tiling[arc.tiling].append(position)
    exits = {(arc.exit, arc.tiling) for arc in problem.arcs}
    found: list[Options] = []
    for tiling in problem.tilings:
        positions = of_tiling[tiling.name]
        if not positions:
            continue
        arcs = [problem.arcs[position] for position in positions]
        tile_s = np.array([arc.tile_s for arc in arcs])
        numbers = np.array(positions)

        def add(source: str, chosen: list[int], traffic: Traffic) -> None:
            found.append(
                Options(
                    tiling,  # noqa: B023
                    source,
                    numbers[chosen],  # noqa: B023
                    exchange_seconds(traffic, routes),
                    tile_s[chosen].max(axis=1),  # noqa: B023
                    tile_s[chosen],  # noqa: B023
                    traffic,
                )
            )

        whole = [row for row, arc in enumerate(arcs) if arc.entry_bytes is not None]
        if whole:
            needed = np.array([arcs[row].entry_bytes for row in whole])
            for host in problem.host_names:
                add(host, whole, _traffic([host], tiling.hosts, needed[:, :, None]))
        for source in problem.tilings:
            tiled = [row for row, arc in enumerate(arcs) if _follows(arc, source, exits)]
            if tiled:
                halos = np.array([arcs[row].halo_bytes[source.name] for row in tiled])
                needed = halos.swapaxes(1, 2)
                add(source.name, tiled, _traffic(source.hosts, tiling.hosts, needed))
    return found


def gather_seconds(
    problem: HorizontalProblem, routes: HorizontalRoutes, tensors: Sequence[str], tiling: Tiling
) -> dict[str, tuple[Floats, Traffic]]:
    """By host, seconds to make each tensor whole there, and the messages."""
    held = np.array([problem.gather_bytes(tensor, tiling.name) for tensor in tensors])
    answer = {}
    for host in problem.host_names:
        traffic = _traffic(tiling.hosts, [host], held[:, None, :])
        answer[host] = (exchange_seconds(traffic, routes), traffic)
    return answer


def exchange_seconds(traffic: Traffic, routes: HorizontalRoutes) -> Floats:
    """Seconds until all messages of a row have arrived.

    Messages go at the same time unless they share a link direction, be it through others that
    share one with both; those go one after another.
    """
    rows, pairs = traffic.bytes.shape
    if pairs == 0:
        return np.zeros(rows)
    per_byte, fixed = np.array([routes.price(*pair) for pair in traffic.pairs]).T
    sent = traffic.bytes > 0
    seconds = np.where(sent, traffic.bytes * per_byte + fixed, 0.0)
    media = [routes.media(*pair) for pair in traffic.pairs]
    shared = np.array([[bool(a & b) for b in media] for a in media])
    if not np.any(shared & ~np.eye(pairs, dtype=bool)):
        return np.asarray(seconds.max(axis=1))
    answer = np.zeros(rows)
    patterns, which = np.unique(sent, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        chosen = np.flatnonzero(which.reshape(-1) == number)
        for group in _connected(shared, np.flatnonzero(pattern)):
            total = seconds[chosen][:, group].sum(axis=1)
            answer[chosen] = np.maximum(answer[chosen], total)
    return answer


def _connected(shared: npt.NDArray[np.bool_], members: Integers) -> list[list[int]]:
    left = set(members.tolist())
    groups = []
    while left:
        group = [left.pop()]
        for member in group:
            found = [other for other in left if shared[member, other]]
            group += found
            left -= set(found)
        groups.append(group)
    return groups


def _traffic(senders: Sequence[str], receivers: Sequence[str], needed: Floats) -> Traffic:
    """From bytes of rows x receivers x senders; what a host has itself is no message."""
    pairs = [
        (sender, receiver, row, column)
        for row, receiver in enumerate(receivers)
        for column, sender in enumerate(senders)
        if sender != receiver
    ]
    rows = [pair[2] for pair in pairs]
    columns = [pair[3] for pair in pairs]
    return Traffic(
        tuple((pair[0], pair[1]) for pair in pairs),
        needed[:, rows, columns] if pairs else np.zeros((len(needed), 0)),
    )


def _follows(arc: Arc, source: Tiling, exits: set[tuple[str, str]]) -> bool:
    """Whether the entry can be tiled as the source when the arc begins."""
    return source.name in arc.halo_bytes and (arc.entry, source.name) in exits
