"""Which plan of a bundle a request takes: a dot product over what was observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from partc.bundle.manifest import CallEntry, Manifest
from partc.errors import UsageError
from partc.suggest import unknown_name

CHOSEN = "chosen"
"""The plan that is optimal for the topology as declared; every bundle has it."""


@dataclass(frozen=True)
class Observation:
    """How things are now; what is None is as the topology declares it.

    Attributes:
        bandwidth_mbit_s: of the first link, towards its second host.
        rtt_s: of the first link.
        device_slowdown, server_slowdown: against the declared speeds; 2 is half as fast.
    """

    bandwidth_mbit_s: float | None = None
    rtt_s: float | None = None
    device_slowdown: float = 1.0
    server_slowdown: float = 1.0


@dataclass(frozen=True)
class Choice:
    """A plan by its name, the call that is a request by it, and which hosts it avoids, and why."""

    name: str
    call: CallEntry
    avoided: tuple[str, ...] = ()


class PlanChooser:
    """Chooses among the plans of a bundle.

    Without an observation it is the plan that was chosen at compile time. With one, it is the
    cheapest of the portfolio. A plan that needs a host which is down is passed over where another
    does without it.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._observed: Observation | None = None
        portfolio = manifest.portfolio
        self._plans = {each.name: each for each in portfolio.plans} if portfolio else {}
        self._fixed_s = 0.0
        if portfolio is not None and manifest.topology.links:
            declared_rtt_s = manifest.topology.links[0].rtt_ms * 1e-3
            self._fixed_s = portfolio.base_rtt_s - declared_rtt_s

    @property
    def names(self) -> tuple[str, ...]:
        """Every plan of the bundle."""
        return (CHOSEN, *self._plans)

    def observe(self, **changes: Any) -> None:
        """Say how things are now; fields of `Observation`.

        Raises:
            UsageError: the bundle carries one plan only, a value makes no sense.
        """
        if not self._plans:
            raise UsageError(
                "the bundle carries one plan only; declare [conditions] in the topology and "
                "compile it again to have others to choose from"
            )
        for name, value in changes.items():
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be a positive number, but it is {value:g}")
        self._observed = replace(self._observed or Observation(), **changes)

    def latencies_s(self) -> dict[str, float]:
        """Predicted latency of each plan of the portfolio under the present observation."""
        portfolio = self._manifest.portfolio
        if portfolio is None:
            return {}
        seen = self._observed or Observation()
        rtt_s = portfolio.base_rtt_s if seen.rtt_s is None else seen.rtt_s + self._fixed_s
        return {
            name: each.cost.latency_s(
                seen.bandwidth_mbit_s or portfolio.base_bandwidth_mbit_s,
                rtt_s,
                seen.device_slowdown,
                seen.server_slowdown,
                portfolio.message_s_per_byte,
            )
            for name, each in self._plans.items()
        }

    def choose(self, why_down: Callable[[str], str | None], wanted: str | None = None) -> Choice:
        """The plan for a request.

        Args:
            why_down: host -> why it is known to be down, or None.
            wanted: a plan by name, whatever was observed.

        Raises:
            UsageError: there is no plan of that name.
        """
        if wanted is not None:
            if wanted not in self.names:
                raise UsageError(unknown_name("plan", wanted, self.names))
            return Choice(wanted, self._root(wanted))
        if not self._plans:
            return Choice(CHOSEN, self._root(CHOSEN))
        down = {host: why for host in self._manifest.hosts if (why := why_down(host)) is not None}
        latencies_s = self.latencies_s()
        best = CHOSEN
        if self._observed is not None:
            best = min(self._plans, key=latencies_s.__getitem__)
        missing = [host for host in down if host in self._needed(best)]
        possible = [name for name in self._plans if not down.keys() & self._needed(name)]
        if not missing or not possible:
            return Choice(best, self._root(best))
        name = min(possible, key=latencies_s.__getitem__)
        avoided = tuple(
            f"Host {host!r} is down ({down[host]}); the request took plan {name!r}."
            for host in missing
        )
        return Choice(name, self._root(name), avoided)

    def _root(self, name: str) -> CallEntry:
        plan = self._manifest.plan if name == CHOSEN else self._plans[name].plan
        return plan.calls[0]

    def _needed(self, name: str) -> set[str]:
        plan = self._manifest.plan if name == CHOSEN else self._plans[name].plan
        return {call.host for call in plan.calls}
