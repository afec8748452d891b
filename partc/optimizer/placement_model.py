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
from partc.optimizer.linear import Affine, LinearModel, Sum

ONE = Affine((), 1.0)
ZERO = Affine()


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
        _add_sum(total, self.compute_s(host), data.power_active_w - data.power_idle_w)
        for flow in self.flows:
            if flow.sender == host:
                total.add(flow.used, flow.wire_s * (data.power_tx_w - data.power_idle_w))
            if flow.receiver == host:
                total.add(flow.used, flow.wire_s * (data.power_rx_w - data.power_idle_w))
        if data.power_idle_w > 0:
            _add_sum(total, self.latency_s(), data.power_idle_w)
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
            if flow.load is not None:
                loads.setdefault(flow.load, Sum()).add(flow.used, flow.wire_s)
        return loads

    def _add_objective(self) -> None:
        objective = Sum()
        if self.problem.objective == "latency":
            _add_sum(objective, self.latency_s(), self.scale)
        elif self.problem.objective == "energy":
            counted = self.problem.energy_hosts or self.problem.host_names
            for name in dict.fromkeys(counted):
                index = self.problem.host_names.index(name)
                _add_sum(objective, self.energy_j(index), self.scale)
        else:
            slowest = self.linear.variable("T", upper=None)
            for load in self.loads().values():
                row = Sum()
                _add_sum(row, load, -self.scale)
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
        self._add_memory()
        self._add_segments()

    # Memory

    def _add_memory(self) -> None:
        capped = [h for h in self.hosts if self.problem.hosts[h].memory_bytes is not None]
        if not capped:
            return
        users = self._bytes_by_users()
        for host in capped:
            capacity = self.problem.hosts[host].memory_bytes
            assert capacity is not None
            held = Sum()
            for units, size_bytes in users.items():
                present = [self.at[unit][host] for unit in units if host in self.at[unit]]
                if present:
                    held.add(self.any_of(present), size_bytes)
            if not self.problem.constraints.activations:
                self.linear.budget(held, capacity)
                continue
            for live in self._live_tensors(host):
                total = Sum()
                _add_sum(total, held, 1.0)
                for place, size_bytes in live:
                    total.add(place, size_bytes)
                self.linear.budget(total, capacity)

    def _bytes_by_users(self) -> dict[tuple[int, ...], float]:
        """Weights that the same units use are one."""
        units: dict[str, dict[int, None]] = {}
        for op in self.problem.ops:
            for name in op.weights:
                units.setdefault(name, {})[self.instance.unit_of[op.name]] = None
        total: dict[tuple[int, ...], float] = {}
        for weight in self.problem.weights:
            if weight.name in units and weight.size_bytes > 0:
                key = tuple(sorted(units[weight.name]))
                total[key] = total.get(key, 0.0) + weight.size_bytes
        return total

    def any_of(self, places: list[Affine]) -> Affine:
        """At least 1 where one of the places is 1."""
        if len(places) == 1:
            return places[0]
        if any(place == ONE for place in places):
            return ONE
        held = self.linear.variable("m")
        for place in places:
            self.linear.at_least(held.minus(place))
        return held

    def _live_tensors(self, host: int) -> list[list[tuple[Affine, float]]]:
        """For each step of the ops' order, the tensors that may be live then on the host."""
        position = {op.name: step for step, op in enumerate(self.problem.ordered_ops, start=1)}
        steps = len(position)
        live: list[list[tuple[Affine, float]]] = [[] for _ in range(steps + 1)]
        for tensor in self.problem.tensors:
            place = self._presence(tensor.name, host)
            if place is None or tensor.size_bytes == 0:
                continue
            producer = self.problem.producer_of.get(tensor.name)
            first = position[producer.name] if producer else 0
            readers = self.problem.consumers_of[tensor.name]
            last = max((position[op.name] for op in readers), default=0)
            if tensor.name in self.problem.outputs:
                last = steps
            for step in range(first, max(first, last) + 1):
                live[step].append((place, tensor.size_bytes))
        return live

    def _presence(self, tensor: str, host: int) -> Affine | None:
        """1 where the tensor arises on the host or arrives there."""
        producer = self.problem.producer_of.get(tensor)
        if producer is not None:
            source = self.at[self.instance.unit_of[producer.name]].get(host)
        elif tensor in self.problem.inputs:
            home = self.problem.host_names.index(self.problem.inputs[tensor])
            source = ONE if home == host else None
        else:
            return None
        total = Sum()
        for part in [*([source] if source else []), *self.arrivals.get((tensor, host), [])]:
            total.add(part)
        if not total.terms and total.constant == 0.0:
            return None
        return Affine(tuple(total.terms.items()), min(total.constant, 1.0))

    # Segments

    def _add_segments(self) -> None:
        limits = self.problem.constraints
        most = dict(limits.max_segments)
        if limits.contiguous:
            most = dict.fromkeys(self.problem.host_names, 1)
        for name, visits in most.items():
            self._limit_visits(self.problem.host_names.index(name), visits)

    def _limit_visits(self, host: int, visits: int) -> None:
        """An op is on the host when it was entered one more time than it was left.

        `entered` and `left` never fall along a path, so a path enters at most `visits` times.
        """
        entered: dict[str, list[Affine]] = {}
        left: dict[str, list[Affine]] = {}
        whole = visits > 1
        for op in self.problem.ordered_ops:
            entered[op.name] = [self.linear.variable("d", integer=whole) for _ in range(visits)]
            left[op.name] = [self.linear.variable("w", integer=whole) for _ in range(visits)]
            here = Sum()
            here.add(self.at[self.instance.unit_of[op.name]].get(host, ZERO), -1.0)
            for k in range(visits):
                here.add(entered[op.name][k])
                here.add(left[op.name][k], -1.0)
                self.linear.at_least(entered[op.name][k].minus(left[op.name][k]))
                if k > 0:
                    self.linear.at_least(left[op.name][k - 1].minus(entered[op.name][k]))
            self.linear.equal(Affine(tuple(here.terms.items())), -here.constant)
            makers = [self.problem.producer_of.get(tensor) for tensor in op.inputs]
            for before in dict.fromkeys(maker.name for maker in makers if maker is not None):
                for k in range(visits):
                    self.linear.at_least(entered[op.name][k].minus(entered[before][k]))
                    self.linear.at_least(left[op.name][k].minus(left[before][k]))

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


def _add_sum(total: Sum, other: Sum, factor: float) -> None:
    if factor == 0.0:
        return
    total.constant += factor * other.constant
    for variable, coefficient in other.terms.items():
        total.terms[variable] = total.terms.get(variable, 0.0) + factor * coefficient
