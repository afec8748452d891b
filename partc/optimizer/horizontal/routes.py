"""The one way that a message takes between two hosts, and what it costs."""

from __future__ import annotations

import heapq
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partc.optimizer.horizontal.problem import HorizontalProblem

Hop = tuple[str, str]


class HorizontalRoutes:
    """Routes with the fewest hops; of those, the one with the least seconds per byte.

    On a bus every message is put by its sender and taken by its receiver: one hop.
    """

    def __init__(self, problem: HorizontalProblem) -> None:
        self.problem = problem
        self._price: dict[Hop, tuple[float, float]] = {}
        if problem.bus is None:
            for link in problem.links:
                a, b = link.between
                self._price[a, b] = (link.seconds_per_byte[0], link.latency_s[0])
                self._price[b, a] = (link.seconds_per_byte[1], link.latency_s[1])
        else:
            for sender in problem.hosts:
                for receiver in problem.hosts:
                    if sender.name != receiver.name:
                        self._price[sender.name, receiver.name] = (
                            (sender.bus_seconds_per_byte or 0.0)
                            + (receiver.bus_seconds_per_byte or 0.0),
                            sender.bus_latency_s + receiver.bus_latency_s,
                        )

    def hop_price(self, hop: Hop) -> tuple[float, float]:
        """Seconds per byte and fixed seconds of one hop."""
        return self._price[hop]

    def path(self, source: str, destination: str) -> tuple[Hop, ...]:
        """The hops from one host to another; none for the same host."""
        return self._paths[source, destination]

    def price(self, source: str, destination: str) -> tuple[float, float]:
        """Seconds per byte and fixed seconds of a message, hop after hop."""
        hops = [self._price[hop] for hop in self._paths[source, destination]]
        return sum(price[0] for price in hops), sum(price[1] for price in hops)

    def media(self, source: str, destination: str) -> frozenset[str]:
        """What a message occupies: link directions and shared ports, or the bus."""
        if source == destination:
            return frozenset()
        if self.problem.bus is not None:
            return frozenset(["bus"])
        used = set()
        for sender, receiver in self._paths[source, destination]:
            used |= {f"{sender}->{receiver}", *self.ports(sender, receiver)}
        return frozenset(used)

    def ports(self, sender: str, receiver: str) -> tuple[str, ...]:
        """The shared ports that a hop occupies."""
        shared = self.problem.shared_ports
        out = (f"{sender}:out",) if sender in shared else ()
        return (*out, f"{receiver}:in") if receiver in shared else out

    @cached_property
    def _paths(self) -> dict[tuple[str, str], tuple[Hop, ...]]:
        position = {name: index for index, name in enumerate(self.problem.host_names)}
        neighbours: dict[str, list[str]] = {name: [] for name in position}
        for a, b in self._price:
            neighbours[a].append(b)
        paths: dict[tuple[str, str], tuple[Hop, ...]] = {}
        for source in position:
            waiting: list[tuple[int, float, float, tuple[int, ...], str, tuple[Hop, ...]]]
            waiting = [(0, 0.0, 0.0, (), source, ())]
            while waiting:
                hops, per_byte, fixed, order, here, path = heapq.heappop(waiting)
                if (source, here) in paths:
                    continue
                paths[source, here] = path
                for there in neighbours[here]:
                    if (source, there) not in paths:
                        more_per_byte, more_fixed = self._price[here, there]
                        heapq.heappush(
                            waiting,
                            (
                                hops + 1,
                                per_byte + more_per_byte,
                                fixed + more_fixed,
                                (*order, position[there]),
                                there,
                                (*path, (here, there)),
                            ),
                        )
        return paths
