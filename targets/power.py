"""What a host draws: as the topology says, else as its target's data sheet does."""

from __future__ import annotations

from dataclasses import dataclass

from partc.ir.topology import Host, Topology
from partc.targets.registry import Target, load_target


@dataclass(frozen=True)
class Power:
    """Watts in each state of a host; None where nobody says.

    A host is computing, sending, receiving or idle, one at a time, from the start of a request to
    its end; its energy is the sum of each state's watts times its seconds. What a host draws
    between requests is not the request's.
    """

    active_w: float | None
    idle_w: float | None
    tx_w: float | None
    rx_w: float | None

    def energy_j(
        self, busy_s: float, sending_s: float, receiving_s: float, latency_s: float
    ) -> float:
        """Joules of one request that takes ``latency_s``; states of unknown power count nothing."""
        idle_s = max(0.0, latency_s - busy_s - sending_s - receiving_s)
        return (
            (self.active_w or 0.0) * busy_s
            + (self.tx_w or 0.0) * sending_s
            + (self.rx_w or 0.0) * receiving_s
            + (self.idle_w or 0.0) * idle_s
        )


def power_of(host: Host, target: Target | None = None) -> Power:
    """The topology's figures; those that it leaves out come from the target.

    Raises:
        TargetError: the host's target is unknown.
    """
    sheet = (target or load_target(host.target)).hardware
    return Power(
        active_w=_first(host.power_active_w, sheet.power_active_w),
        idle_w=_first(host.power_idle_w, sheet.power_idle_w),
        tx_w=_first(host.power_tx_w, sheet.power_tx_w),
        rx_w=_first(host.power_rx_w, sheet.power_rx_w),
    )


def powered(topology: Topology) -> Topology:
    """The topology with every figure that its hosts leave out and their targets know.

    Raises:
        TargetError: a host's target is unknown.
    """
    hosts = {}
    for name, host in topology.hosts.items():
        power = power_of(host)
        known = {
            "power_active_w": power.active_w,
            "power_idle_w": power.idle_w,
            "power_tx_w": power.tx_w,
            "power_rx_w": power.rx_w,
        }
        hosts[name] = host.model_copy(update=known)
    return topology.model_copy(update={"hosts": hosts})


def _first(given: float | None, default: float | None) -> float | None:
    return default if given is None else given
