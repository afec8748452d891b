"""Two hosts without budgets: an s-t minimum cut, whose flow value proves it optimal.

After Hu et al., "Dynamic Adaptive DNN Surgery for Inference Acceleration on the Edge" (DADS,
INFOCOM 2019), with each tensor paid once per direction and both directions allowed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from partc.errors import UsageError
from partc.optimizer.conflicts import explain_conflict
from partc.optimizer.evaluation import evaluate
from partc.optimizer.instance import Instance, Net, NoHostLeftError, build_instance
from partc.optimizer.prices import cheapest_codecs, pair_prices
from partc.optimizer.problem import Problem
from partc.optimizer.routes import Routes
from partc.optimizer.solution import Solution, solution_of

_LARGEST_CAPACITY = 2**31 - 2  # SciPy's flows are 32-bit
_ROUNDS = 5
_EXACT = 1e-9
_NOISE = 1e-15


def why_not_a_cut(problem: Problem) -> str | None:
    """Why the problem is no minimum cut, or None if it is one."""
    limits = problem.constraints
    reasons = [
        (len(problem.hosts) != 2, f"it has {len(problem.hosts)} hosts instead of two"),
        (problem.bus is not None, "its hosts share a bus"),
        (problem.objective != "latency", f"its objective is {problem.objective}"),
        (
            any(host.memory_bytes is not None for host in problem.hosts),
            "a host's memory is limited",
        ),
        (limits.contiguous or bool(limits.max_segments), "it limits segments"),
        (bool(limits.energy_j), "it has an energy budget"),
        (limits.deadline_s is not None, "it has a deadline"),
        (limits.period_s is not None, "it has a period"),
        (limits.loss_budget is not None and bool(problem.codecs), "it has a loss budget"),
    ]
    return next((reason for applies, reason in reasons if applies), None)


def minimum_cut(problem: Problem) -> Solution:
    """The optimal plan of two hosts without budgets, in milliseconds.

    The bound is the value of a maximum flow.

    Raises:
        UsageError: the problem is more than a minimum cut.
    """
    began = time.perf_counter()
    reason = why_not_a_cut(problem)
    if reason is not None:
        raise UsageError(f"The problem is no minimum cut: {reason}; use solve().")
    try:
        instance = build_instance(problem)
    except NoHostLeftError:
        return _infeasible(problem)
    network = _Network(instance)
    beyond, flow_s = network.cut()
    placement = instance.placement([1 if unit in beyond else 0 for unit in range(network.units)])
    evaluation = evaluate(problem, placement, cheapest_codecs(instance))
    if evaluation.violations:
        # Only the arcs of infinite capacity can be broken, and only when every cut breaks one.
        return _infeasible(problem)
    close = evaluation.objective - flow_s <= 1e-6 * evaluation.objective
    return solution_of(
        problem,
        placement,
        bound=evaluation.objective if close else flow_s,
        status="optimal" if close else "feasible",
        solver="minimum-cut",
        solve_s=time.perf_counter() - began,
        evaluation=evaluation,
    )


def _infeasible(problem: Problem) -> Solution:
    why = explain_conflict(problem)
    return Solution(
        None,
        None,
        None,
        "infeasible",
        solver="minimum-cut",
        conflicts=why.sentences,
        conflict_kind=why.kind,
    )


class _Network:
    """Nodes: host 0 (the source), host 1 (the sink), units, and one hub per shared tensor."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.units = len(instance.cost_s)
        self.nodes = self.units + 2
        self._prices = pair_prices(instance)
        self._tails: list[int] = []
        self._heads: list[int] = []
        self._capacities: list[float] = []
        self._routes = Routes(instance.problem)
        infinite = float("inf")
        for unit, costs in enumerate(instance.cost_s):
            self._arc(0, unit + 2, costs.get(1, infinite))
            self._arc(unit + 2, 1, costs.get(0, infinite))
        for net in instance.nets:
            self._add_net(net)

    def _arc(self, tail: int, head: int, capacity: float) -> None:
        if capacity > 0 and tail != head:
            self._tails.append(tail)
            self._heads.append(head)
            self._capacities.append(capacity)

    def _add_net(self, net: Net) -> None:
        source = net.source_host if net.source_unit is None else net.source_unit + 2
        assert source is not None
        answers = list(net.reader_hosts)
        readers = [unit + 2 for unit in net.reader_units]
        out_s, back_s = net.fixed_s or self._prices[net.tensor]
        self._send(source, [*readers, *answers], out_s, out=True)
        one_way = self.instance.problem.constraints.monotone and net.source_unit is not None
        away = 1 if self._routes.root == self.instance.problem.host_names[0] else 0
        if one_way:
            for reader in readers:
                tail, head = (reader, source) if away == 1 else (source, reader)
                self._arc(tail, head, float("inf"))
        self._send(source, [*readers, *answers], back_s, out=False)

    def _send(self, source: int, readers: list[int], price_s: float, *, out: bool) -> None:
        """Pay once when the source and a reader are on different sides in one direction."""
        infinite = float("inf")
        if len(readers) == 1:
            tail, head = (source, readers[0]) if out else (readers[0], source)
            self._arc(tail, head, price_s)
            return
        hub = self.nodes
        self.nodes += 1
        self._arc(*((source, hub) if out else (hub, source)), price_s)
        for reader in readers:
            self._arc(*((hub, reader) if out else (reader, hub)), infinite)

    def cut(self) -> tuple[set[int], float]:
        """Units on the sink's side, and a value that no cut can be below.

        Capacities are rounded down, so a flow is a true lower bound; the rest is routed in further
        rounds on the residual network with finer rounding.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import breadth_first_order, maximum_flow

        capacities = np.array(self._capacities)
        finite = capacities[np.isfinite(capacities)]
        most = float(finite.sum()) or 1.0
        np.minimum(capacities, 2 * most, out=capacities)
        shape = (self.nodes, self.nodes)
        exact = csr_array((capacities, (self._tails, self._heads)), shape=shape)
        exact.sum_duplicates()
        residual = exact
        routed = 0.0
        best = min(({0}, set(range(self.nodes)) - {1}), key=lambda side: self._value(exact, side))
        upper = self._value(exact, best)
        for _ in range(_ROUNDS):
            if upper - routed <= _EXACT * upper:
                break
            room = min(upper - routed, 2 * most)
            scale = _LARGEST_CAPACITY / room / 2
            whole = residual.copy()
            whole.data = np.floor(np.minimum(residual.data, room) * scale).astype(np.int32)
            whole.eliminate_zeros()
            flow = maximum_flow(whole.astype(np.int32), 0, 1)
            routed += flow.flow_value / scale
            left = (whole - flow.flow).tocsr()
            left.data = np.maximum(left.data, 0)
            left.eliminate_zeros()
            reached = set(breadth_first_order(left, 0, return_predecessors=False).tolist())
            value = self._value(exact, reached)
            if value < upper:
                upper, best = value, reached
            residual = (residual - flow.flow.astype(float) / scale).tocsr()
            residual.data[residual.data < _NOISE * most] = 0.0
        return set(range(self.units)) - {node - 2 for node in best}, routed

    @staticmethod
    def _value(capacities: Any, side: set[int]) -> float:
        inside = np.zeros(capacities.shape[0], dtype=bool)
        inside[list(side)] = True
        edges = capacities.tocoo()
        return float(edges.data[inside[edges.row] & ~inside[edges.col]].sum())
