"""Paths and prices in a tree of links."""

from __future__ import annotations

from partc.optimizer.problem import Problem


class Routes:
    """The tree of links, seen from its root.

    The root is the host where the first input arises; without inputs, the first host.
    """

    def __init__(self, problem: Problem) -> None:
        self.root = next(iter(problem.inputs.values()), problem.hosts[0].name)
        self._price: dict[tuple[str, str], tuple[float, float]] = {}
        neighbours: dict[str, list[str]] = {host.name: [] for host in problem.hosts}
        for link in problem.links:
            a, b = link.between
            neighbours[a].append(b)
            neighbours[b].append(a)
            self._price[a, b] = (link.seconds_per_byte[0], link.latency_s[0])
            self._price[b, a] = (link.seconds_per_byte[1], link.latency_s[1])
        self.parent: dict[str, str | None] = {self.root: None}
        self.order = [self.root]
        for host in self.order:
            for neighbour in neighbours[host]:
                if neighbour not in self.parent:
                    self.parent[neighbour] = host
                    self.order.append(neighbour)

    def cost(self, source: str, destination: str) -> tuple[float, float]:
        """Seconds per byte and fixed seconds per message between two neighbours."""
        return self._price[source, destination]

    def path(self, source: str, destination: str) -> list[tuple[str, str]]:
        """The hops from one host to another."""
        down = self._to_root(destination)
        up = self._to_root(source)
        while up and down and up[-1] == down[-1]:
            up.pop()
            down.pop()
        return [*up, *((b, a) for a, b in reversed(down))]

    def behind(self, host: str) -> set[str]:
        """The host and all that are reached from the root through it."""
        inside = {host}
        for name in self.order:
            if self.parent[name] in inside:
                inside.add(name)
        return inside

    def _to_root(self, host: str) -> list[tuple[str, str]]:
        hops = []
        parent = self.parent[host]
        while parent is not None:
            hops.append((host, parent))
            host, parent = parent, self.parent[parent]
        return hops
