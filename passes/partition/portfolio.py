"""The plans that a bundle carries for changing conditions."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from partc.ir.conditions import Conditions as Declared
from partc.ir.portfolio import Alternative, CostVector, Portfolio, RuledPoint
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import evaluate
from partc.optimizer.conditions import Conditions, Point
from partc.optimizer.portfolios import PortfolioPlan, portfolio
from partc.passes.lower.schedule import root_host
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.transfers import transfers_of

_MAP_BANDWIDTHS, _MAP_SLOWDOWNS = 25, 7


def op_placement(program: Program, placement: dict[str, str]) -> dict[str, str]:
    """Op -> host from block -> host."""
    return {op: placement[block.name] for block in program.blocks or () for op in block.ops}


def make_portfolio(
    program: Program, topology: Topology, objective: str, losses: LossMeter | None = None
) -> Portfolio:
    """The portfolio for the conditions that the topology declares.

    Losses that its plans rest on are measured, and the plans found anew, until all are known.

    Raises:
        UsageError: the objective is not latency, the problem has budgets that change with the
            conditions, or no links.
    """
    declared = topology.conditions
    assert declared is not None and program.costs is not None
    started = time.perf_counter()
    message_s_per_byte = program.costs.message.s_per_byte
    while True:
        problem = placement_problem(program, topology, objective=objective, losses=losses)
        base_rtt_s = sum(problem.links[0].latency_s) if problem.links else 0.0
        ranges = _ranges(topology, declared, base_rtt_s, message_s_per_byte)
        found = portfolio(problem, ranges, tolerance=declared.tolerance)
        used = [
            (tensor, codec) for plan in found.plans for (tensor, _, _), codec in plan.codecs.items()
        ]
        if losses is None or not losses.learn(used):
            break
    device = root_host(program, topology)
    names = _names(found.plans, device, len(topology.hosts))
    # Without the hosts where requests start and answers are wanted there is no request.
    needed = {device, *problem.inputs.values(), *problem.outputs.values()}
    plans = tuple(
        Alternative(
            name=name,
            placement=op_placement(program, plan.placement),
            transfers=transfers_of(
                evaluate(problem, plan.placement, plan.codecs).transfers, topology, device
            ),
            cost=CostVector(**vars(plan.cost)),
            survives=tuple(host for host in plan.survives if host not in needed),
        )
        for name, plan in zip(names, found.plans, strict=True)
    )
    link = topology.links[0]
    by_name = dict(zip(names, found.plans, strict=True))
    return Portfolio(
        plans=plans,
        base_bandwidth_mbit_s=link.mbit_s(link.between[0]),
        base_rtt_s=base_rtt_s,
        message_s_per_byte=message_s_per_byte,
        tolerance=declared.tolerance,
        certified_fraction=found.certified_fraction,
        known_plans=found.known_plans,
        solve_s=time.perf_counter() - started,
        map=tuple(_map(by_name, declared, ranges, base_rtt_s, message_s_per_byte)),
    )


def _ranges(
    topology: Topology, declared: Declared, base_rtt_s: float, message_s_per_byte: float
) -> Conditions:
    """The declared ranges with what a message costs besides the link, which does not change."""
    slow, fast = (_throughput_mbit_s(b, message_s_per_byte) for b in declared.bandwidth_mbit_s)
    rtt_s = None
    if declared.rtt_ms is not None and topology.links:
        fixed_s = base_rtt_s - topology.links[0].rtt_ms * 1e-3
        rtt_s = (declared.rtt_ms[0] * 1e-3 + fixed_s, declared.rtt_ms[1] * 1e-3 + fixed_s)
    return Conditions(
        bandwidth_mbit_s=(slow, fast),
        rtt_s=rtt_s,
        device_slowdown=declared.device_slowdown,
        server_slowdown=declared.server_slowdown,
    )


def _throughput_mbit_s(bandwidth_mbit_s: float, message_s_per_byte: float) -> float:
    """What is left of a bandwidth after copying and framing."""
    return 8e-6 / (8e-6 / bandwidth_mbit_s + message_s_per_byte)


def _names(plans: tuple[PortfolioPlan, ...], device: str, hosts: int) -> list[str]:
    names: list[str] = []
    times: Counter[str] = Counter()
    for plan in plans:
        used = set(plan.placement.values())
        if used <= {device}:
            kind = "device-only"
        elif len(used) == 1:
            kind = "edge-only" if hosts == 2 else f"only-{next(iter(used))}"
        else:
            kind = "split"
        times[kind] += 1
        numbered = kind == "split" or times[kind] > 1
        names.append(f"{kind}-{times[kind]}" if numbered else kind)
    return names


def _map(
    plans: dict[str, PortfolioPlan],
    declared: Declared,
    ranges: Conditions,
    base_rtt_s: float,
    message_s_per_byte: float,
) -> list[RuledPoint]:
    """The ruling plan over bandwidth and device slowdown, at the middle server slowdown."""
    server = float(np.sqrt(ranges.server_slowdown[0] * ranges.server_slowdown[1]))
    rtt_s = base_rtt_s if ranges.rtt_s is None else sum(ranges.rtt_s) / 2
    points: list[RuledPoint] = []
    for slowdown in np.unique(np.linspace(*ranges.device_slowdown, _MAP_SLOWDOWNS)):
        for bandwidth in np.unique(np.geomspace(*declared.bandwidth_mbit_s, _MAP_BANDWIDTHS)):
            mbit_s = _throughput_mbit_s(float(bandwidth), message_s_per_byte)
            point = Point(mbit_s, rtt_s, float(slowdown), server)
            name = min(plans, key=lambda each: plans[each].cost.latency_s(point))
            latency_s = plans[name].cost.latency_s(point)
            points.append(RuledPoint(float(bandwidth), float(slowdown), server, name, latency_s))
    return points
