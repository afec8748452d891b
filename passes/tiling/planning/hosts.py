"""Which hosts may share rows, and in which shares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from partc.errors import TopologyError
from partc.ir.topology import Topology
from partc.optimizer.horizontal import candidate_shares

_MOST_TILES = 4


@dataclass(frozen=True)
class Sharing:
    """Hosts that compute rows of the same tensors, each its share; shares add up to 1."""

    hosts: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def name(self) -> str:
        """Unique among the candidates of one problem."""
        parts = (f"{host}:{share:.4f}" for host, share in zip(self.hosts, self.shares, strict=True))
        return "+".join(parts)


def groups_of_hosts(topology: Topology, root: str) -> tuple[tuple[str, ...], ...]:
    """Sets of hosts that are all joined with each other, largest first.

    Without ``[tiles]`` the servers are candidates, and the device is not.

    Raises:
        TopologyError: ``[tiles]`` names hosts that cannot reach each other.
    """
    named = topology.tiles.hosts
    hosts = named or tuple(name for name in topology.hosts if name != root)
    if named:
        for one, other in itertools.combinations(named, 2):
            if not topology.are_joined(one, other):
                raise TopologyError(
                    f"[tiles] hosts {one!r} and {other!r} cannot reach each other directly; add a "
                    "[[links]] entry between them, or put both on the [[bus]]"
                )
    found = [
        members
        for size in range(min(len(hosts), _MOST_TILES), 1, -1)
        for members in itertools.combinations(hosts, size)
        if all(topology.are_joined(*pair) for pair in itertools.combinations(members, 2))
    ]
    return tuple(found)


def sharings(
    topology: Topology, groups: tuple[tuple[str, ...], ...], whole_s: Mapping[str, float], rows: int
) -> tuple[Sharing, ...]:
    """Candidates of shares for each set of hosts, by how fast the hosts are.

    Args:
        whole_s: host -> seconds of the whole model there.
        rows: of the tensors where they are cut finest.
    """
    given = topology.tiles.shares
    found: dict[str, Sharing] = {}
    for hosts in groups:
        if rows < len(hosts):
            continue
        if given is not None and set(given) == set(hosts):
            total = sum(given.values())
            vectors = [tuple(given[host] / total for host in hosts)]
        else:
            vectors = list(candidate_shares([1.0 / whole_s[host] for host in hosts], rows))
        for shares in vectors:
            sharing = Sharing(hosts, shares)
            found.setdefault(sharing.name, sharing)
    return tuple(found.values())
