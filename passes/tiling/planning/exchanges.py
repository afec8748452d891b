"""What hosts that share tiles send each other, which finds both at work."""

from __future__ import annotations

from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Problem

Groups = tuple[tuple[str, ...], ...]


def are_priced_here(topology: Topology, groups: Groups) -> bool:
    """Whether what hosts that may share tiles send each other costs what it does here."""
    return any(
        link.fixed_ms is None and any(set(link.between) <= set(hosts) for hosts in groups)
        for link in topology.links
    )


def with_exchanges(
    problem: Problem, program: Program, topology: Topology, groups: Groups
) -> Problem:
    """The problem with the links between hosts that may share tiles priced as they exchange.

    Links whose fixed cost the topology gives stay as they are, and so does a bus.
    """
    assert program.costs is not None
    message = program.costs.message
    if message.exchange_fixed_s is None:
        return problem
    less_s = message.fixed_s - message.exchange_fixed_s
    links = []
    for link in problem.links:
        way = topology.link_between(*link.between)
        if way.fixed_ms is None and any(set(link.between) <= set(hosts) for hosts in groups):
            there_s, back_s = (max(0.0, latency_s - less_s) for latency_s in link.latency_s)
            link = link.model_copy(update={"latency_s": (there_s, back_s)})
        links.append(link)
    return problem.changed(links=tuple(links))
