"""The way that a message takes between two hosts, in legs, and what each leg costs and occupies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from partc.optimizer.problem import MEDIUM, Host, Tensor
from partc.optimizer.routes import Routes

if TYPE_CHECKING:
    from partc.optimizer.horizontal.problem import HorizontalProblem


@dataclass(frozen=True)
class Leg:
    """One link direction; on a bus, putting a message there or taking it.

    Attributes:
        sender, receiver: who is busy with it; on a bus one of them is None.
        seconds_per_byte, fixed_s: what a message costs.
        loads: what it occupies, by the names that loads have.
    """

    sender: str | None
    receiver: str | None
    seconds_per_byte: float
    fixed_s: float
    loads: tuple[str, ...]

    def seconds(self, size_bytes: float, whole: Tensor | None = None) -> float:
        """Of a message; a tensor that travels whole may share it or cost extra."""
        if whole is None:
            return size_bytes * self.seconds_per_byte + self.fixed_s
        extra_s = whole.extra_s.get(self.receiver, 0.0) if self.receiver is not None else 0.0
        fixed_s = 0.0 if whole.shares_message else self.fixed_s
        return size_bytes * self.seconds_per_byte + fixed_s + extra_s


class HorizontalRoutes:
    """The ways of the placement problem, for whole tensors and parts of them alike."""

    def __init__(self, problem: HorizontalProblem) -> None:
        self.problem = problem
        self._hosts: dict[str, Host] = {host.name: host for host in problem.hosts}

    def legs(self, source: str, destination: str) -> tuple[Leg, ...]:
        """From one host to another; none for the same host."""
        return self._legs[source, destination]

    def price(self, source: str, destination: str) -> tuple[float, float]:
        """Seconds per byte and fixed seconds of a message, leg after leg."""
        legs = self._legs[source, destination]
        return sum(leg.seconds_per_byte for leg in legs), sum(leg.fixed_s for leg in legs)

    def media(self, source: str, destination: str) -> frozenset[str]:
        """What a message occupies that another one may wait for."""
        if self.problem.bus is not None and source != destination:
            return frozenset([MEDIUM])
        return frozenset(name for leg in self._legs[source, destination] for name in leg.loads)

    @cached_property
    def _legs(self) -> dict[tuple[str, str], tuple[Leg, ...]]:
        names = self.problem.host_names
        if self.problem.bus is not None:
            put = {name: self._port(name, puts=True) for name in names}
            take = {name: self._port(name, puts=False) for name in names}
            return {(a, b): () if a == b else (put[a], take[b]) for a in names for b in names}
        routes = Routes(self.problem.vertical)
        known: dict[tuple[str, str], Leg] = {}
        for link in self.problem.links:
            for hop in (link.between, link.between[::-1]):
                known[hop] = self._link(*hop, *routes.cost(*hop))
        return {
            (a, b): tuple(known[hop] for hop in routes.path(a, b)) for a in names for b in names
        }

    def _link(self, sender: str, receiver: str, per_byte: float, fixed_s: float) -> Leg:
        shared = self.problem.shared_ports
        loads = [f"{sender}->{receiver}"]
        loads += [f"{sender}:out"] if sender in shared else []
        loads += [f"{receiver}:in"] if receiver in shared else []
        return Leg(sender, receiver, per_byte, fixed_s, tuple(loads))

    def _port(self, name: str, *, puts: bool) -> Leg:
        bus, host = self.problem.bus, self._hosts[name]
        assert bus is not None
        loads = [name if bus.serial else f"{name}:bus"]
        loads += [MEDIUM] if bus.shared else []
        return Leg(
            name if puts else None,
            None if puts else name,
            host.bus_seconds_per_byte or 0.0,
            host.bus_latency_s,
            tuple(loads),
        )
