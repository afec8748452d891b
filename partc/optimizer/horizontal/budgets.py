"""Budgets and the objective: latency, the largest load, or energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from partc.optimizer.horizontal.rows import Floats, Integers

if TYPE_CHECKING:
    from partc.optimizer.horizontal.model import HorizontalModel, Sent

_ROW_SIZE = 1000.0


def limit_and_price(model: HorizontalModel) -> Floats:
    """Add the budgets; return what each column costs in the model's units."""
    limits = model.problem.constraints
    if limits.deadline_s is not None:
        _budget(model, model.rows.seconds(), limits.deadline_s)
    usage = _Usage(model)
    if limits.period_s is not None:
        for load in usage.loads().values():
            _budget(model, load, limits.period_s)
    for name, budget_j in limits.energy_j.items():
        _budget(model, usage.energy_j(name), budget_j)
    if model.problem.objective == "latency":
        return model.rows.seconds() * model.scale
    if model.problem.objective == "energy":
        counted = dict.fromkeys(model.problem.energy_hosts or model.problem.host_names)
        total = sum((usage.energy_j(name) for name in counted), np.zeros(model.rows.columns))
        return np.asarray(total * model.scale)
    loads = usage.loads()
    slowest = int(model.rows.add_columns(np.zeros(1), upper=np.inf)[0])
    for load in loads.values():
        row = model.rows.add_row({slowest: 1.0}, 0.0, np.inf)
        used = np.flatnonzero(load)
        model.rows.add_terms(row, used, -load[used] * model.scale)
    cost = np.zeros(model.rows.columns)
    cost[slowest] = 1.0
    return cost


def _budget(model: HorizontalModel, total: Floats, limit: float) -> None:
    """Require total <= limit, in a row scaled so that rounding stays relative to it."""
    size = max(limit, float(np.abs(total).max(initial=0.0)))
    factor = _ROW_SIZE / size if size > 0 else 1.0
    used = np.flatnonzero(total)
    row = model.rows.add_row({}, -np.inf, limit * factor)
    model.rows.add_terms(row, used, total[used] * factor)


class _Usage:
    """Seconds that each column takes of each host and link direction."""

    def __init__(self, model: HorizontalModel) -> None:
        self.model = model
        self.problem = model.problem

    def loads(self) -> dict[str, Floats]:
        """By host and link direction (or bus port)."""
        loads = {name: self._empty() for name in self.problem.host_names}
        for host, columns, seconds in self.model.compute:
            np.add.at(loads[host], columns, seconds)
        bus = self.problem.bus
        for sent in self.model.sent:
            for sender, receiver, put_s, take_s in self._hops(sent):
                if bus is None:
                    ports = self.model.routes.ports(sender, receiver)
                    for name in (f"{sender}->{receiver}", *ports):
                        self._add(loads, name, sent.columns, put_s)
                else:
                    port = "" if bus.serial else ":bus"
                    self._add(loads, f"{sender}{port}", sent.columns, put_s)
                    self._add(loads, f"{receiver}{port}", sent.columns, take_s)
        return loads

    def energy_j(self, name: str) -> Floats:
        """Joules of a host: while messages go at the same time, each adds what is above idle."""
        host = next(each for each in self.problem.hosts if each.name == name)
        total = self.model.rows.seconds() * host.power_idle_w
        sending_w = max(0.0, host.power_tx_w - host.power_idle_w)
        receiving_w = max(0.0, host.power_rx_w - host.power_idle_w)
        for where, columns, seconds in self.model.compute:
            if where == name:
                np.add.at(total, columns, seconds * (host.power_active_w - host.power_idle_w))
        for sent in self.model.sent:
            for sender, receiver, put_s, take_s in self._hops(sent):
                on_link = put_s + take_s if self.problem.bus is None else None
                if sender == name:
                    seconds = put_s if on_link is None else on_link
                    np.add.at(total, sent.columns, seconds * sending_w)
                if receiver == name:
                    seconds = take_s if on_link is None else on_link
                    np.add.at(total, sent.columns, seconds * receiving_w)
        return total

    def _hops(self, sent: Sent) -> list[tuple[str, str, Floats, Floats]]:
        """Each hop with its seconds; on a bus, putting and taking apart."""
        tensor = None
        if sent.tensor is not None:
            tensor = self.problem.vertical.tensor_by_name[sent.tensor]
        if self.problem.bus is None:
            hops = []
            for hop in self.model.routes.path(sent.source, sent.destination):
                per_byte, fixed = self.model.routes.hop_price(hop)
                if tensor is not None:
                    fixed = 0.0 if tensor.shares_message else fixed
                    fixed += tensor.extra_s.get(hop[1], 0.0)
                seconds = sent.bytes * per_byte + fixed
                hops.append((*hop, seconds, np.zeros_like(seconds)))
            return hops
        ends = []
        for name in (sent.source, sent.destination):
            host = next(each for each in self.problem.hosts if each.name == name)
            fixed = host.bus_latency_s
            if tensor is not None and tensor.shares_message:
                fixed = 0.0
            ends.append(sent.bytes * (host.bus_seconds_per_byte or 0.0) + fixed)
        if tensor is not None:
            ends[1] = ends[1] + tensor.extra_s.get(sent.destination, 0.0)
        return [(sent.source, sent.destination, ends[0], ends[1])]

    def _add(self, loads: dict[str, Floats], name: str, columns: Integers, seconds: Floats) -> None:
        np.add.at(loads.setdefault(name, self._empty()), columns, seconds)

    def _empty(self) -> Floats:
        return np.zeros(self.model.rows.columns)
