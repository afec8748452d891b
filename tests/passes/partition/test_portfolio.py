"""The plans for changing conditions: near the optimum everywhere, legal, and honestly priced."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from partc.errors import InfeasibleError, TopologyError, UsageError
from partc.ir.cost import MessageCost
from partc.ir.portfolio import Alternative, Portfolio
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import evaluate, solve
from partc.passes.partition.problem import placement_problem
from tests.support.narrowing import NO_MESSAGE_COST, OPS, Seconds, narrowing, solved

COSTS: dict[str, float | dict[str, float]] = {
    "camera": {op: 0.004 if op.startswith("/head") else 0.0005 for op in OPS},
    "server": 0.0002,
}
MESSAGE = MessageCost(fixed_s=0.0, s_per_byte=2e-8, provenance="estimated")
"""A copy of a byte that counts: as much as a link of 400 Mbit/s."""


def two_hosts(
    conditions: dict[str, Any], *, down_mbit_s: float = 4, **constraints: Any
) -> Topology:
    return Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [
                {
                    "between": ["camera", "server"],
                    "uplink_mbit_s": 4,
                    "downlink_mbit_s": down_mbit_s,
                    "rtt_ms": 4,
                    "fixed_ms": 0.5,
                }
            ],
            "constraints": constraints,
            "conditions": conditions,
        }
    )


RANGES = {
    "bandwidth_mbit_s": [0.05, 1000.0],
    "rtt_ms": [1, 40],
    "device_slowdown": [1, 5],
    "server_slowdown": [1, 10],
}


def found(
    topology: Topology, costs: Seconds = COSTS, message: MessageCost = MESSAGE
) -> tuple[Program, Portfolio]:
    program = narrowing(topology, costs)
    assert program.costs is not None
    program = solved(replace(program, costs=replace(program.costs, message=message)), topology)
    assert program.portfolio is not None
    return program, program.portfolio


def under(
    program: Program, topology: Topology, mbit_s: float, rtt_ms: float, device: float, server: float
) -> Any:
    """The placement problem as it would be, were the conditions the declared ones."""
    data = topology.model_dump(mode="json", exclude_none=True)
    link = data["links"][0]
    down_mbit_s = mbit_s * link["downlink_mbit_s"] / link["uplink_mbit_s"]
    link |= {"uplink_mbit_s": mbit_s, "downlink_mbit_s": down_mbit_s, "rtt_ms": rtt_ms}
    assert program.costs is not None
    costs = {
        block: {
            host: replace(cost, median_s=cost.median_s * (device if host == "camera" else server))
            for host, cost in row.items()
        }
        for block, row in program.costs.costs.items()
    }
    changed = replace(program, costs=replace(program.costs, costs=costs))
    return placement_problem(changed, Topology.parse(data))


def latency_s(
    portfolio: Portfolio, plan: Alternative, at: tuple[float, float, float, float]
) -> float:
    """The dot product, as a runtime would take it."""
    mbit_s, rtt_ms, device, server = at
    rtt_s = rtt_ms * 1e-3 + (portfolio.base_rtt_s - 4e-3)
    cost = plan.cost
    return (
        cost.constant_s
        + cost.device_s * device
        + cost.server_s * server
        + cost.sent_bytes * (8e-6 / mbit_s + portfolio.message_s_per_byte)
        + cost.round_trips * rtt_s
    )


GRID = list(itertools.product((0.05, 0.4, 2.0, 30.0, 1000.0), (1, 4, 40), (1, 2.2, 5), (1, 10)))


def test_the_best_of_the_plans_is_within_tolerance_everywhere() -> None:
    topology = two_hosts(RANGES)
    program, portfolio = found(topology)
    assert portfolio.certified_fraction == 1.0
    assert len(portfolio.plans) >= 3
    rulers = set()
    for at in GRID:
        best = solve(under(program, topology, *at)).require_plan()
        assert best.objective is not None
        costs = {plan.name: latency_s(portfolio, plan, at) for plan in portfolio.plans}
        ruler = min(costs, key=costs.__getitem__)
        rulers.add(ruler)
        assert costs[ruler] <= best.objective * (1 + portfolio.tolerance + 1e-6)
    assert len(rulers) >= 3


@pytest.mark.parametrize(
    ("down_mbit_s", "message"), [(4, MESSAGE), (16, NO_MESSAGE_COST)], ids=["copies", "two ways"]
)
def test_a_cost_vector_is_what_evaluating_the_plan_gives(
    down_mbit_s: float, message: MessageCost
) -> None:
    topology = two_hosts(RANGES, down_mbit_s=down_mbit_s)
    program, portfolio = found(topology, message=message)
    for at in GRID:
        problem = under(program, topology, *at)
        for plan in portfolio.plans:
            blocks = {b.name: plan.placement[b.ops[0]] for b in program.blocks or ()}
            exact = evaluate(problem, blocks).latency_s
            assert latency_s(portfolio, plan, at) == pytest.approx(exact, rel=1e-9)


def test_a_wider_tolerance_needs_fewer_plans() -> None:
    span = {"bandwidth_mbit_s": [0.05, 1000.0]}
    counts = [
        len(found(two_hosts(span | {"tolerance": tolerance}))[1].plans)
        for tolerance in (0.001, 0.05, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_the_device_alone_is_there_where_it_is_legal() -> None:
    _, free = found(two_hosts(RANGES))
    assert "device-only" in {plan.name for plan in free.plans}
    assert any("server" in plan.survives for plan in free.plans)
    _, pinned = found(two_hosts(RANGES, pin={"server": ["/neck/Conv"]}))
    assert "device-only" not in {plan.name for plan in pinned.plans}
    assert not any(plan.survives for plan in pinned.plans)


def test_every_plan_respects_the_constraints() -> None:
    topology = two_hosts(RANGES, keep_local=["image"], together=[["/neck/*"]], monotone=True)
    program, portfolio = found(topology)
    problem = placement_problem(program, topology)
    for plan in portfolio.plans:
        assert "image" not in {transfer.tensor for transfer in plan.transfers}
        assert plan.placement["/neck/Conv"] == plan.placement["/neck/Relu"]
        blocks = {b.name: plan.placement[b.ops[0]] for b in program.blocks or ()}
        assert not evaluate(problem, blocks).violations


def test_the_map_names_the_plan_that_is_best_there() -> None:
    topology = two_hosts(RANGES)
    _, portfolio = found(topology)
    by_name = {plan.name: plan for plan in portfolio.plans}
    assert len(by_name) == len(portfolio.plans), "names must differ"
    assert {p.device_slowdown for p in portfolio.map} >= {1.0, 5.0}
    for point in portfolio.map:
        at = (point.bandwidth_mbit_s, 20.5, point.device_slowdown, point.server_slowdown)
        costs = {name: latency_s(portfolio, plan, at) for name, plan in by_name.items()}
        assert costs[point.plan] == pytest.approx(min(costs.values()))
        assert point.predicted_s == pytest.approx(costs[point.plan])


def test_three_hosts_and_each_of_them_lost() -> None:
    topology = Topology.parse(
        {
            "hosts": {"hub": {}, "left": {}, "right": {}},
            "links": [
                {"between": ["hub", "left"], "bandwidth_mbit_s": 20, "rtt_ms": 2},
                {"between": ["hub", "right"], "bandwidth_mbit_s": 40, "rtt_ms": 4},
            ],
            "conditions": {"bandwidth_mbit_s": [0.1, 100]},
        }
    )
    _, portfolio = found(topology, {"hub": 0.004, "left": 0.0003, "right": 0.0002})
    for lost in ("left", "right"):
        assert any(lost in plan.survives for plan in portfolio.plans)
    names = [plan.name for plan in portfolio.plans]
    assert len(set(names)) == len(names)
    assert "device-only" in names


@pytest.mark.parametrize(
    ("constraints", "sentence"),
    [
        ({"deadline_ms": 100}, "cannot have a deadline"),
        ({"energy_j": {"camera": 1.0}}, "energy budget"),
    ],
)
def test_budgets_that_conditions_would_change(constraints: dict[str, Any], sentence: str) -> None:
    data = two_hosts(RANGES, **constraints).model_dump(mode="json", exclude_none=True)
    data["hosts"]["camera"]["power_active_w"] = 1.0
    with pytest.raises(UsageError, match=sentence):
        found(Topology.parse(data))


def test_a_portfolio_is_for_latency() -> None:
    topology = two_hosts(RANGES)
    with pytest.raises(UsageError, match="for the latency objective"):
        solved(narrowing(topology, COSTS), topology, objective="throughput")


def test_one_host_has_nothing_to_choose_from() -> None:
    topology = Topology.parse(
        {"hosts": {"camera": {}}, "conditions": {"bandwidth_mbit_s": [1, 10]}}
    )
    with pytest.raises(UsageError, match="joined by links"):
        solved(narrowing(topology, {"camera": 0.001}), topology)


def test_what_cannot_hold_is_named_here_too() -> None:
    topology = two_hosts(RANGES, pin={"camera": ["/neck/Conv"]}, forbid={"camera": ["/neck/Conv"]})
    with pytest.raises(InfeasibleError, match="'/neck/Conv'"):
        found(topology)


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({"bandwidth_mbit_s": [10, 1]}, "from high to low"),
        ({"bandwidth_mbit_s": [0, 1]}, "greater than 0"),
        ({"bandwidth_mbit_s": [1]}, "bandwidth_mbit_s"),
        ({}, "bandwidth_mbit_s"),
        ({"bandwidth_mbit_s": [1, 2], "device_slowdown": [0.5, 1]}, "greater than or equal to 1"),
        ({"bandwidth_mbit_s": [1, 2], "tolerance": 0}, "tolerance"),
        ({"bandwidth_mbit_s": [1, 2], "tolerence": 0.1}, "Did you mean 'tolerance'"),
        ({"bandwidth_mbit_s": [1, float("inf")]}, "finite"),
    ],
)
def test_conditions_of_nonsense(conditions: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TopologyError, match=sentence):
        two_hosts(conditions)


def test_the_same_conditions_twice_give_one_plan_space() -> None:
    """A range of one value is fixed."""
    _, portfolio = found(two_hosts({"bandwidth_mbit_s": [4, 4], "rtt_ms": [4, 4]}))
    assert portfolio.certified_fraction == 1.0
    assert {p.bandwidth_mbit_s for p in portfolio.map} == {4.0}
