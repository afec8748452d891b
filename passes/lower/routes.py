"""Which way each tensor takes from the host that makes it to those that read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from partc.errors import TopologyError
from partc.ir.plan import Transfer
from partc.ir.topology import Topology

Hop = tuple[str, str]


@dataclass(frozen=True)
class HostTree:
    """The hosts as seen from the root, breadth first over what joins them: who calls whom.

    Attributes:
        neighbours: hosts that a host is joined with, those that it calls or is called by first.
    """

    parent: Mapping[str, str | None]
    neighbours: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, topology: Topology, root: str) -> HostTree:
        """The tree of a topology.

        Raises:
            TopologyError: a host cannot be reached.
        """
        joined: dict[str, dict[str, None]] = {host: {} for host in topology.hosts}
        for one, other in topology.joined_pairs:
            joined[one][other] = joined[other][one] = None
        parent: dict[str, str | None] = {root: None}
        queue = deque([root])
        while queue:
            above = queue.popleft()
            for below in joined[above]:
                if below not in parent:
                    parent[below] = above
                    queue.append(below)
        for host in topology.hosts:
            if host not in parent:
                raise TopologyError(f"host {host!r} cannot be reached from {root!r}")

        def beside(host: str, other: str) -> bool:
            return parent[host] != other and parent[other] != host

        neighbours = {
            host: tuple(sorted(others, key=lambda other, host=host: beside(host, other)))  # type: ignore[misc]
            for host, others in joined.items()
        }
        return cls(parent, neighbours)

    def is_call(self, hop: Hop) -> bool:
        """Whether the two hosts of a hop call each other; otherwise one pushes to the other."""
        return self.parent[hop[0]] == hop[1] or self.parent[hop[1]] == hop[0]

    def upper(self, hop: Hop) -> str:
        """Of a hop along a call, the host that calls."""
        return hop[0] if self.parent[hop[1]] == hop[0] else hop[1]

    def branch(self, host: str, below: str) -> str:
        """The child of ``host`` through which ``below`` is reached, or ``host`` itself."""
        while below != host:
            above = self.parent[below]
            if above == host:
                return below
            if above is None:
                raise TopologyError(f"host {below!r} cannot be reached from {host!r}")
            below = above
        return host

    @cached_property
    def _towards(self) -> dict[str, dict[str, str]]:
        return {}

    def before(self, source: str) -> Mapping[str, str]:
        """Host -> the one before it on a shortest way from ``source``."""
        if source not in self._towards:
            found: dict[str, str] = {}
            queue = deque([source])
            while queue:
                host = queue.popleft()
                for other in self.neighbours[host]:
                    if other != source and other not in found:
                        found[other] = host
                        queue.append(other)
            self._towards[source] = found
        return self._towards[source]

    def way(self, sender: str, receiver: str) -> tuple[Hop, ...]:
        """The hops of a shortest way."""
        before = self.before(sender)
        hops: list[Hop] = []
        while receiver != sender:
            hops.append((before[receiver], receiver))
            receiver = before[receiver]
        return tuple(reversed(hops))


class Routes:
    """The ways of all tensors.

    A tensor reaches each host once. The ways are those of the plan's transfers where they lead
    from the writer to the reader over hosts that are joined; shortest ways otherwise.
    """

    def __init__(self, tree: HostTree, transfers: Iterable[Transfer] = ()) -> None:
        self._tree = tree
        self._planned: dict[str, dict[str, list[str]]] = {}
        for moved in transfers:
            if moved.receiver in tree.neighbours.get(moved.sender, ()):
                ways = self._planned.setdefault(moved.tensor, {})
                ways.setdefault(moved.sender, []).append(moved.receiver)

    def spread(self, tensor: str, writer: str, readers: Iterable[str]) -> dict[str, str]:
        """Host -> the host that it gets the tensor from, for all but the writer."""
        wanted = [reader for reader in dict.fromkeys(readers) if reader != writer]
        planned = self._along_the_plan(tensor, writer)
        before: dict[str, str] = {}

        def take(way: Mapping[str, str], reader: str) -> None:
            while reader != writer and reader not in before:
                before[reader] = way[reader]
                reader = way[reader]

        for reader in wanted:
            if reader in planned:
                take(planned, reader)
        for reader in wanted:
            take(self._tree.before(writer), reader)
        return before

    def _along_the_plan(self, tensor: str, writer: str) -> dict[str, str]:
        ways = self._planned.get(tensor, {})
        found: dict[str, str] = {}
        queue = deque([writer])
        while queue:
            host = queue.popleft()
            for other in ways.get(host, ()):
                if other != writer and other not in found:
                    found[other] = host
                    queue.append(other)
        return found
