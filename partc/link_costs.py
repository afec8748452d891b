"""What messages cost on the links of a topology, and where that is known from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from partc.errors import PartcError
from partc.ir.cost import Cost, MessageCost
from partc.ir.topology import Bus, Link, Topology
from partc.measure.keys import CostKey
from partc.measure.statistics import now
from partc.measure.store import CostStore
from partc.passes.contract import TYPICAL_MESSAGE_COST, Progress
from partc.targets.meter import Meter

_LINK_BUDGET_S = 2.0


@dataclass(frozen=True)
class LinkCosts:
    """What a compilation needs to know of messages.

    Attributes:
        topology: with the fixed cost of each link that was measured between its two nodes.
        cost: for all links; its fixed part for those that have none of their own.
        notices: sentences for the user.
    """

    topology: Topology
    cost: MessageCost
    notices: tuple[str, ...] = ()


def link_costs(
    topology: Topology,
    meters: Mapping[str, Meter],
    store: CostStore | None,
    progress: Progress,
) -> LinkCosts:
    """As the topology says it, as two nodes measure it between them, or as it is on this machine.

    Args:
        meters: host -> what measures there, of hosts that have an agent.

    Raises:
        TargetError: a node cannot be asked.
    """
    if not meters:
        if all(way.fixed_ms is not None for way in _ways(topology)):
            return LinkCosts(topology, TYPICAL_MESSAGE_COST)  # it says so for every link
        return LinkCosts(topology, _here(store, progress))
    from partc.agent.meter import message_cost

    topology, notices = _measured(topology, meters, store, progress)
    progress("asking what messages cost", None)
    handling = message_cost(meters)
    unknown = [way for way in _ways(topology) if way.fixed_ms is None]
    if not unknown:
        return LinkCosts(topology, handling, notices)
    here = _here(store, progress)
    cost = replace(here, s_per_byte=max(here.s_per_byte, handling.s_per_byte))
    for way in unknown:
        ends = way.between if isinstance(way, Link) else way.hosts
        if any(topology.hosts[host].agent is not None for host in ends):
            named = "link" if isinstance(way, Link) else "bus"
            notices += (
                f"the fixed cost of a message on the {named} of {' and '.join(ends)} was measured "
                f"on this machine ({here.fixed_s * 1e3:.2f} ms), which may not be how long it "
                "takes there; partc link measures it, for fixed_ms in the topology",
            )
    return LinkCosts(topology, cost, notices)


def _ways(topology: Topology) -> tuple[Link | Bus, ...]:
    return (*topology.links, *topology.bus)


def _here(store: CostStore | None, progress: Progress) -> MessageCost:
    from partc.message_cost import measured_message_cost

    return measured_message_cost(store, progress)


def _measured(
    topology: Topology, meters: Mapping[str, Meter], store: CostStore | None, progress: Progress
) -> tuple[Topology, tuple[str, ...]]:
    """The topology with what can be measured between two nodes that have an agent each."""
    links: list[Link] = []
    notices: list[str] = []
    for link in topology.links:
        fixed_s = None
        if link.fixed_ms is None:
            try:
                fixed_s = _between(link, meters, store, progress)
            except PartcError as error:
                notices.append(
                    f"the link of {' and '.join(link.between)} could not be measured: {error}"
                )
        if fixed_s is not None:
            link = link.model_copy(update={"fixed_ms": fixed_s * 1e3})
        links.append(link)
    return topology.model_copy(update={"links": tuple(links)}), tuple(notices)


def _between(
    link: Link, meters: Mapping[str, Meter], store: CostStore | None, progress: Progress
) -> float | None:
    """Seconds that a message takes whatever its size; None where nobody can tell."""
    from partc.agent.meter import AgentMeter

    one, other = (meters.get(host) for host in link.between)
    if not isinstance(one, AgentMeter) or not isinstance(other, AgentMeter):
        return None
    if one.address == other.address:
        return None  # a node cannot call itself while it measures
    nodes = (f"{each.detect().fingerprint} at {each.address}" for each in (one, other))
    key = str(CostKey("link-message-fixed", fingerprint=" and ".join(nodes)))
    if store is not None and key in (found := store.find([key])):
        return found[key].median_s
    progress(f"measuring the link of {' and '.join(link.between)}", None)
    measured = one.link_to(other.address, _LINK_BUDGET_S)
    samples = measured.up.samples + measured.down.samples
    if store is not None:
        store.add({key: Cost(measured.fixed_s, 0.0, samples, "measured", now())})
    return measured.fixed_s
