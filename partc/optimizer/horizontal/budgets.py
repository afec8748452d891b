"""Budgets and the objective: latency, the largest load, or energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from partc.optimizer.horizontal.rows import Floats

if TYPE_CHECKING:
    from partc.optimizer.horizontal.model import HorizontalModel

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
        """By host, and by all that messages occupy."""
        loads = {name: self._empty() for name in self.problem.host_names}
        for host, columns, seconds in self.model.compute:
            np.add.at(loads[host], columns, seconds)
        for sent in self.model.sent:
            for name in sent.leg.loads:
                np.add.at(loads.setdefault(name, self._empty()), sent.columns, sent.seconds)
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
            if sent.leg.sender == name:
                np.add.at(total, sent.columns, sent.seconds * sending_w)
            if sent.leg.receiver == name:
                np.add.at(total, sent.columns, sent.seconds * receiving_w)
        return total

    def _empty(self) -> Floats:
        return np.zeros(self.model.rows.columns)
