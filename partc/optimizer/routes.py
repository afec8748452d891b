"""Ways and prices between hosts that are joined by links."""

from __future__ import annotations

import heapq
import math
from functools import cached_property
from itertools import pairwise

from partc.errors import UsageError
from partc.optimizer.problem import Problem

_SAME = 1e-9


class Routes:
    """One fixed way from each host to each other one.

    In a tree there is but one. Where links close rings, it is the cheapest for a tensor of the
    problem's mean size, the direct link where that is not worse, then the fewest links, then the
    order of the hosts; `Problem.routes` overrides it. The ways from one host form a tree, so that
    what goes to several hosts shares the beginnings of its ways.

    The root is the host where the first input arises; without inputs, the first host.
    """

    def __init__(self, problem: Problem) -> None:
        self.root = next(iter(problem.inputs.values()), problem.hosts[0].name)
        self._problem = problem
        self._price: dict[tuple[str, str], tuple[float, float]] = {}
        self._neighbours: dict[str, list[str]] = {host.name: [] for host in problem.hosts}
        for link in problem.links:
            a, b = link.between
            self._neighbours[a].append(b)
            self._neighbours[b].append(a)
            self._price[a, b] = (link.seconds_per_byte[0], link.latency_s[0])
            self._price[b, a] = (link.seconds_per_byte[1], link.latency_s[1])
        self.is_tree = len(problem.links) < len(problem.hosts)
        self.parent: dict[str, str | None] = {self.root: None}
        self.depth = {self.root: 0}
        self.order = [self.root]
        for host in self.order:
            for neighbour in self._neighbours[host]:
                if neighbour not in self.parent:
                    self.parent[neighbour] = host
                    self.depth[neighbour] = self.depth[host] + 1
                    self.order.append(neighbour)
        self._before: dict[str, dict[str, str]] = {}

    def cost(self, source: str, destination: str) -> tuple[float, float]:
        """Seconds per byte and fixed seconds per message between two neighbours."""
        return self._price[source, destination]

    def before(self, source: str) -> dict[str, str]:
        """For every other host, the one before it on the way from `source`."""
        if source not in self._before:
            before = self._cheapest_ways(source)
            for way in self._problem.routes:
                if way[0] == source:
                    before.update({host: sender for sender, host in pairwise(way)})
            self._before[source] = before
        return self._before[source]

    def path(self, source: str, destination: str) -> list[tuple[str, str]]:
        """The hops from one host to another."""
        before = self.before(source)
        hops = []
        while destination != source:
            hops.append((before[destination], destination))
            destination = before[destination]
        return hops[::-1]

    def stays_or_leaves(self, source: str, destination: str) -> bool:
        """Whether no hop of the way leads nearer to the root."""
        return all(self.depth[a] <= self.depth[b] for a, b in self.path(source, destination))

    def all(self) -> tuple[tuple[str, ...], ...]:
        """Every way, so that a problem can keep them when its prices change."""
        names = self._problem.host_names
        return tuple(
            (a, *(hop[1] for hop in self.path(a, b))) for a in names for b in names if a != b
        )

    def behind(self, host: str) -> set[str]:
        """The host and all that are reached from the root through it, in a tree."""
        inside = {host}
        for name in self.order:
            if self.parent[name] in inside:
                inside.add(name)
        return inside

    @cached_property
    def _typical_bytes(self) -> float:
        sizes = [tensor.size_bytes for tensor in self._problem.tensors]
        return math.fsum(sizes) / len(sizes) if sizes else 0.0

    def _cheapest_ways(self, source: str) -> dict[str, str]:
        """Dijkstra's algorithm; among equally cheap ways the shortest, then the first."""
        place = {name: index for index, name in enumerate(self._neighbours)}
        before: dict[str, str] = {}
        reached: dict[str, float] = {}
        queue: list[tuple[float, int, tuple[int, ...], str, str]] = [(0.0, 0, (), source, source)]
        while queue:
            seconds, hops, way, host, sender = heapq.heappop(queue)
            if host in reached:
                continue
            reached[host] = seconds
            before[host] = sender
            for neighbour in self._neighbours[host]:
                if neighbour not in reached:
                    longer = (*way, place[neighbour])
                    price_s = seconds + self._seconds(host, neighbour)
                    heapq.heappush(queue, (price_s, hops + 1, longer, neighbour, host))
        del before[source]
        for neighbour in self._neighbours[source]:
            if self._seconds(source, neighbour) <= reached[neighbour] * (1 + _SAME):
                before[neighbour] = source
        return before

    def _seconds(self, source: str, destination: str) -> float:
        seconds_per_byte, latency_s = self._price[source, destination]
        return self._typical_bytes * seconds_per_byte + latency_s


def routes_are_open(problem: Problem) -> bool:
    """Whether other prices could mean other ways."""
    if problem.bus is not None or Routes(problem).is_tree:
        return False
    return bool(set(Routes(problem).all()) - set(problem.routes))


def check_routes(problem: Problem) -> None:
    """The ways that a problem prescribes.

    Raises:
        UsageError: one is no way over links, or two from one host disagree.
    """
    linked = {pair for link in problem.links for pair in (link.between, link.between[::-1])}
    before: dict[tuple[str, str], str] = {}
    for way in problem.routes:
        text = " -> ".join(map(repr, way))
        if len(way) < 2 or len(set(way)) < len(way):
            raise UsageError(f"The route {text} must name two or more different hosts.")
        for hop in pairwise(way):
            if hop not in linked:
                raise UsageError(f"In the route {text}: no link joins {hop[0]!r} and {hop[1]!r}.")
            if before.setdefault((way[0], hop[1]), hop[0]) != hop[0]:
                raise UsageError(
                    f"In the route {text}: another route from {way[0]!r} reaches {hop[1]!r} from "
                    f"{before[way[0], hop[1]]!r}; routes from one host may part, but not meet."
                )
