"""The integer program of a placement, shared by trees of links and buses.

Variables say on which host a unit is and over which link direction (or through which host's bus
port) a tensor goes. There is one flow per tensor and link direction, never one per edge of the
graph, and no big-M. The formulation is written out in docs/optimizer.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from partc.optimizer.instance import CodecOption, Instance, Net
from partc.optimizer.linear import ONE, Affine, LinearModel, Sum
from partc.optimizer.memory_rows import add_memory_rows
from partc.optimizer.problem import MEDIUM
from partc.optimizer.segment_rows import add_segment_rows
from partc.optimizer.tightening import over


@dataclass(frozen=True)
class Flow:
    """What one codec on one channel costs when the tensor goes there.

    Attributes:
        used: 1 when it is used.
        sender, receiver: who encodes and who decodes; None where the other end is the bus.
        load: name of the link direction, or None on a bus.
    """

    used: Affine
    tensor: str
    codec: str
    loss: float
    wire_s: float
    encode_s: float
    decode_s: float
    sender: int | None
    receiver: int | None
    load: str | None


class PlacementModel(ABC):
    """Builds the linear model of an instance; subclasses say how tensors move."""

    def __init__(self, instance: Instance, seconds_scale: float) -> None:
        self.instance = instance
        self.problem = instance.problem
        self.scale = seconds_scale
        self.linear = LinearModel()
        self.hosts = range(len(self.problem.hosts))
        self.flows: list[Flow] = []
        self.arrivals: dict[tuple[str, int], list[Affine]] = {}
        self.least_compute_s = sum(min(costs.values()) for costs in instance.cost_s)
        self.at: list[dict[int, Affine]] = [self._unit(costs) for costs in instance.cost_s]
        self.prepare()
        for net in instance.nets:
            self.add_net(net)
        self._add_budgets()
        self._add_objective()

    @abstractmethod
    def prepare(self) -> None:
        """Make what the nets need."""

    @abstractmethod
    def add_net(self, net: Net) -> None:
        """Add the variables and rows that move one tensor to all who read it."""

    @abstractmethod
    def chosen_codecs(self, values: npt.NDArray[np.float64]) -> dict[tuple[str, str, str], str]:
        """The codec of each (tensor, from, to) in a solution."""

    def _unit(self, costs: dict[int, float]) -> dict[int, Affine]:
        """Where a unit is: no variable for one allowed host, one for two, one each for more."""
        hosts = list(costs)
        if len(hosts) == 1:
            return {hosts[0]: ONE}
        if len(hosts) == 2:
            second = self.linear.variable("x", integer=True)
            return {hosts[0]: ONE.minus(second), hosts[1]: second}
        places = {host: self.linear.variable("x", integer=True) for host in hosts}
        total = Sum()
        for place in places.values():
            total.add(place)
        self.linear.equal(Affine(tuple(total.terms.items())), 1.0)
        return places

    def source_places(self, net: Net) -> dict[int, Affine]:
        """Host to 1 where the tensor arises."""
        if net.source_unit is not None:
            return self.at[net.source_unit]
        assert net.source_host is not None
        return {net.source_host: ONE}

    def reader_places(self, net: Net) -> list[dict[int, Affine]]:
        """For each reader, host to 1 where it is."""
        return [self.at[unit] for unit in net.reader_units] + [
            {host: ONE} for host in net.reader_hosts
        ]

    def weighs_codecs(self) -> bool:
        """Whether a codec may be better in one respect and worse in another."""
        limits = self.problem.constraints
        return (
            self.problem.objective != "latency"
            or limits.loss_budget is not None
            or bool(limits.energy_j)
            or limits.period_s is not None
        )

    def useful_options(
        self, options: list[CodecOption], seconds: dict[str, float]
    ) -> list[CodecOption]:
        """The options that may be part of an optimum; `seconds` is the wire time of each."""

        def total_s(option: CodecOption) -> float:
            return seconds[option.name] + option.encode_s + option.decode_s

        if not self.weighs_codecs():
            return [min(options, key=total_s)]

        def price(option: CodecOption) -> tuple[float, ...]:
            return seconds[option.name], option.encode_s, option.decode_s, option.loss

        kept: list[CodecOption] = []
        for option in sorted(options, key=price):
            if not any(
                all(a <= b for a, b in zip(price(other), price(option), strict=True))
                for other in kept
            ):
                kept.append(option)
        return kept

    # Sums over the plan

    def compute_s(self, host: int) -> Sum:
        """Seconds of ops, encoding and decoding on a host."""
        total = Sum()
        for unit, costs in enumerate(self.instance.cost_s):
            if costs.get(host):
                total.add(self.at[unit][host], costs[host])
        for flow in self.flows:
            if flow.sender == host:
                total.add(flow.used, flow.encode_s)
            if flow.receiver == host:
                total.add(flow.used, flow.decode_s)
        return total

    def latency_s(self) -> Sum:
        """Seconds of everything, one after the other."""
        total = Sum()
        total.constant = self.instance.constant_s
        for unit, costs in enumerate(self.instance.cost_s):
            for host, seconds in costs.items():
                total.add(self.at[unit][host], seconds)
        for flow in self.flows:
            total.add(flow.used, flow.wire_s + flow.encode_s + flow.decode_s)
        return total

    def energy_j(self, host: int) -> Sum:
        """Joules of a host for one request."""
        data = self.problem.hosts[host]
        total = Sum()
        total.add_sum(self.compute_s(host), data.power_active_w - data.power_idle_w)
        for flow in self.flows:
            if flow.sender == host:
                total.add(flow.used, flow.wire_s * (data.power_tx_w - data.power_idle_w))
            if flow.receiver == host:
                total.add(flow.used, flow.wire_s * (data.power_rx_w - data.power_idle_w))
        if data.power_idle_w > 0:
            total.add_sum(self.latency_s(), data.power_idle_w)
        return total

    def loads(self) -> dict[str, Sum]:
        """Seconds per request of every host and link direction (or bus port)."""
        loads = {host.name: self.compute_s(index) for index, host in enumerate(self.problem.hosts)}
        for flow in self.flows:
            for end in (flow.sender, flow.receiver):
                if flow.load is None and end is not None:
                    name = self.problem.hosts[end].name
                    if self.problem.bus is not None and not self.problem.bus.serial:
                        name += ":bus"
                    loads.setdefault(name, Sum()).add(flow.used, flow.wire_s)
            if self.problem.bus is not None and self.problem.bus.shared:
                loads.setdefault(MEDIUM, Sum()).add(flow.used, flow.wire_s)
            if flow.load is not None:
                loads.setdefault(flow.load, Sum()).add(flow.used, flow.wire_s)
        return loads

    def _add_objective(self) -> None:
        objective = Sum()
        if self.problem.objective == "latency":
            objective.add_sum(self.latency_s(), self.scale)
        elif self.problem.objective == "energy":
            counted = self.problem.energy_hosts or self.problem.host_names
            for name in dict.fromkeys(counted):
                index = self.problem.host_names.index(name)
                objective.add_sum(self.energy_j(index), self.scale)
        else:
            slowest = self.linear.variable("T", upper=None)
            for load in self.loads().values():
                row = Sum()
                row.add_sum(load, -self.scale)
                row.add(slowest)
                self.linear.at_least(Affine(tuple(row.terms.items()), row.constant))
            objective.add(slowest)
        self.linear.minimise(objective)

    def _add_budgets(self) -> None:
        limits = self.problem.constraints
        if limits.deadline_s is not None:
            self.linear.budget(self.latency_s(), limits.deadline_s)
        for name, budget_j in limits.energy_j.items():
            self.linear.budget(self.energy_j(self.problem.host_names.index(name)), budget_j)
        if limits.period_s is not None:
            for load in self.loads().values():
                self.linear.budget(load, limits.period_s)
        if limits.loss_budget is not None:
            loss = Sum()
            for flow in self.flows:
                loss.add(flow.used, flow.loss)
            self.linear.budget(loss, limits.loss_budget)
        add_memory_rows(self)
        add_segment_rows(self)

    def affordable(
        self, sender: int | None, receiver: int | None, wire_s: float, option: CodecOption
    ) -> bool:
        """Whether a flow alone, beside the least of all ops, keeps within the limits."""
        limits = self.problem.constraints
        encode_s, decode_s = option.encode_s, option.decode_s
        checks = [(option.loss, limits.loss_budget)]
        if limits.deadline_s is not None:
            least_s = self.instance.constant_s + self.least_compute_s
            checks.append((least_s + wire_s + encode_s + decode_s, limits.deadline_s))
        if limits.period_s is not None:
            checks += [(seconds, limits.period_s) for seconds in (wire_s, encode_s, decode_s)]
        for end, seconds, sending in ((sender, encode_s, True), (receiver, decode_s, False)):
            host = None if end is None else self.problem.hosts[end]
            if host is not None and host.name in limits.energy_j:
                on_wire_w = host.power_tx_w if sending else host.power_rx_w
                joules = seconds * host.power_active_w + wire_s * on_wire_w
                checks.append((joules, limits.energy_j[host.name]))
        return not any(most is not None and over(value, most) for value, most in checks)

    def exclude(self, values: npt.NDArray[np.float64]) -> None:
        """Forbid the plan of a solution, and no other: at least one choice must differ."""
        index = {variable: position for position, variable in enumerate(self.linear.variables)}
        chosen = [place for places in self.at for place in places.values()]
        chosen += [flow.used for flow in self.flows]
        variables = {variable: None for choice in chosen for variable, _ in choice.terms}
        different = Sum()
        for variable in variables:
            if variable.cat != "Integer":
                continue
            one = round(float(values[index[variable]])) >= 1
            different.add(Affine(((variable, -1.0 if one else 1.0),), 1.0 if one else 0.0))
        self.linear.at_least(different.expression(), 1.0)

    # Reading a solution

    def host_of_unit(self, values: npt.NDArray[np.float64]) -> list[int]:
        """The host of each unit in a solution, the likeliest where it is fractional."""
        value = self.value_reader(values)
        return [max(places, key=lambda host: value(places[host])) for places in self.at]

    def is_integral(self, values: npt.NDArray[np.float64], tolerance: float = 1e-6) -> bool:
        """Whether all integer variables are whole."""
        whole = self.linear.arrays().integer
        return bool(np.all(np.abs(values[whole] - np.round(values[whole])) <= tolerance))

    def value_reader(self, values: npt.NDArray[np.float64]):  # type: ignore[no-untyped-def]
        """A function from an expression to its value in a solution."""
        index = {variable: position for position, variable in enumerate(self.linear.variables)}

        def value(expression: Affine) -> float:
            return expression.constant + sum(
                coefficient * float(values[index[variable]])
                for variable, coefficient in expression.terms
            )

        return value
