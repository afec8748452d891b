"""Constraints that no plan keeps unless several hosts share the work."""

from __future__ import annotations

from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.lower.schedule import root_host
from partc.passes.tiling.planning.hosts import groups_of_hosts


def why_no_tiles(topology: Topology, objective: str) -> str:
    """What is asked for that a plan with tiles could not keep; empty if nothing is."""
    limits = topology.constraints
    if objective != "latency":
        return f"the objective {objective}"
    given = {
        "a loss budget": limits.loss_budget is not None,
        "monotone": limits.monotone,
        "contiguous": limits.contiguous,
        "max_segments": limits.max_segments,
        "count_activations": limits.count_activations,
        "codecs": limits.codecs,
    }
    return next((name for name, value in given.items() if value), "")


def tiles_may_help(program: Program, topology: Topology, objective: str) -> bool:
    """Whether a plan with tiles may keep a deadline or a memory limit that no other plan does."""
    limited = topology.constraints.deadline_ms is not None or any(
        host.memory_mib is not None for host in topology.hosts.values()
    )
    return (
        limited
        and topology.tiles.use != "never"
        and not why_no_tiles(topology, objective)
        and bool(groups_of_hosts(topology, root_host(program, topology)))
    )


def without_limits(topology: Topology) -> Topology:
    """The same without deadline and memory limits: what tiles relieve."""
    hosts = {
        name: host.model_copy(update={"memory_mib": None}) for name, host in topology.hosts.items()
    }
    constraints = topology.constraints.model_copy(update={"deadline_ms": None})
    return topology.model_copy(update={"hosts": hosts, "constraints": constraints})
