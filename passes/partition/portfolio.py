"""The plans that a bundle carries for changing conditions."""

from __future__ import annotations

import time

import numpy as np

from partc.ir.plan import Transfer
from partc.ir.portfolio import Alternative, CostVector, Portfolio, RuledPoint
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Problem, Solution, evaluate
from partc.optimizer.portfolios import Conditions, Point, PortfolioPlan, portfolio
from partc.passes.lower.schedule import root_host

_MAP_BANDWIDTHS, _MAP_SLOWDOWNS = 25, 7


def transfers_of(solution: Solution) -> tuple[Transfer, ...]:
    """The transfers of a solution, as a plan lists them."""
    return tuple(
        Transfer(
            tensor=t.tensor,
            sender=t.source,
            receiver=t.destination,
            size_bytes=round(t.bytes),
            predicted_s=t.seconds,
            codec=t.codec,
        )
        for t in solution.transfers
    )


def op_placement(program: Program, placement: dict[str, str]) -> dict[str, str]:
    """Op -> host from block -> host."""
    return {op: placement[block.name] for block in program.blocks or () for op in block.ops}


def make_portfolio(program: Program, topology: Topology, problem: Problem) -> Portfolio:
    """The portfolio for the conditions that the topology declares.

    Raises:
        UsageError: the problem has budgets that change with the conditions, or no links.
    """
    declared = topology.conditions
    assert declared is not None
    started = time.perf_counter()
    base_rtt_s = sum(problem.links[0].latency_s) if problem.links else 0.0
    # The optimizer's round trip has the fixed costs of messages in it; these do not change.
    fixed_s = base_rtt_s - (topology.links[0].rtt_ms * 1e-3 if topology.links else 0.0)
    rtt_s = None
    if declared.rtt_ms is not None:
        rtt_s = (declared.rtt_ms[0] * 1e-3 + fixed_s, declared.rtt_ms[1] * 1e-3 + fixed_s)
    ranges = Conditions(
        bandwidth_mbit_s=declared.bandwidth_mbit_s,
        rtt_s=rtt_s,
        device_slowdown=declared.device_slowdown,
        server_slowdown=declared.server_slowdown,
    )
    found = portfolio(problem, ranges, tolerance=declared.tolerance)
    device = root_host(program, topology)
    names = _names(found.plans, device, len(topology.hosts))
    plans = tuple(
        Alternative(
            name=name,
            placement=op_placement(program, plan.placement),
            transfers=_transfers(problem, plan),
            cost=CostVector(**vars(plan.cost)),
            survives=plan.survives,
        )
        for name, plan in zip(names, found.plans, strict=True)
    )
    link = topology.links[0]
    by_name = dict(zip(names, found.plans, strict=True))
    return Portfolio(
        plans=plans,
        base_bandwidth_mbit_s=link.mbit_s(link.between[0]),
        base_rtt_s=base_rtt_s,
        tolerance=declared.tolerance,
        certified_fraction=found.certified_fraction,
        known_plans=found.known_plans,
        solve_s=time.perf_counter() - started,
        map=tuple(_map(by_name, ranges, base_rtt_s)),
    )


def _transfers(problem: Problem, plan: PortfolioPlan) -> tuple[Transfer, ...]:
    evaluation = evaluate(problem, plan.placement, plan.codecs)
    return tuple(
        Transfer(t.tensor, t.source, t.destination, round(t.bytes), t.seconds, t.codec)
        for t in evaluation.transfers
    )


def _names(plans: tuple[PortfolioPlan, ...], device: str, hosts: int) -> list[str]:
    names: list[str] = []
    splits = 0
    for plan in plans:
        used = set(plan.placement.values())
        if used <= {device}:
            name = "device-only"
        elif len(used) == 1:
            name = "edge-only" if hosts == 2 else f"{next(iter(used))}-only"
        else:
            splits += 1
            name = f"split-{splits}"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _map(
    plans: dict[str, PortfolioPlan], ranges: Conditions, base_rtt_s: float
) -> list[RuledPoint]:
    """The ruling plan over bandwidth and device slowdown, at the middle server slowdown."""
    server = float(np.sqrt(ranges.server_slowdown[0] * ranges.server_slowdown[1]))
    rtt_s = base_rtt_s if ranges.rtt_s is None else sum(ranges.rtt_s) / 2
    points: list[RuledPoint] = []
    for slowdown in np.unique(np.linspace(*ranges.device_slowdown, _MAP_SLOWDOWNS)):
        for bandwidth in np.unique(np.geomspace(*ranges.bandwidth_mbit_s, _MAP_BANDWIDTHS)):
            point = Point(float(bandwidth), rtt_s, float(slowdown), server)
            name = min(plans, key=lambda each: plans[each].cost.latency_s(point))
            latency_s = plans[name].cost.latency_s(point)
            points.append(RuledPoint(float(bandwidth), float(slowdown), server, name, latency_s))
    return points
