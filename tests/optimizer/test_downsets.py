"""Contiguous pipelines on a bus by chains of downsets, against every placement."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx
import pytest

from partc.optimizer import Problem, evaluate, solve
from partc.optimizer.downsets import applies, best_chain
from partc.optimizer.instance import NoHostLeftError, build_instance
from tests.optimizer.random_problems import brute_force, placements, random_problem


def pipeline(seed: int) -> Problem:
    """Near a chain or not, with memory, groups, pins and a period now and then."""
    generator = random.Random(seed)
    data = random_problem(seed, hosts=3, ops=6, shape="bus", objective="throughput")
    if generator.random() < 0.5:
        for host in data["hosts"][1:]:  # alike
            host |= {k: v for k, v in data["hosts"][1].items() if k != "name"}
        for op in data["ops"]:
            op["cost_s"] = {"h0": 9.0, "h1": op["cost_s"].get("h1", 5.0)}
            op["cost_s"]["h2"] = op["cost_s"]["h1"]
    if generator.random() < 0.5:
        for index, op in enumerate(data["ops"][1:], start=1):
            op["inputs"] = list(dict.fromkeys([f"t{index - 1}", *op["inputs"]]))
    if generator.random() < 0.3:
        for host in data["hosts"]:
            host["memory_bytes"] = 22
    limits: dict[str, Any] = {"contiguous": True}
    if generator.random() < 0.3:
        limits["together"] = [["op1", "op3"]]
    if generator.random() < 0.2:
        limits["pinned"] = {"op2": generator.choice(list(data["ops"][2]["cost_s"]))}
    if generator.random() < 0.2:
        limits["period_s"] = 40.0
    data["constraints"] = limits
    return Problem.from_dict(data)


def has_order(problem: Problem, placement: dict[str, str]) -> bool:
    """Whether no hosts wait for each other in a ring."""
    graph = nx.DiGraph()
    for op in problem.ops:
        for tensor in op.inputs:
            maker = problem.producer_of.get(tensor)
            if maker is not None and placement[maker.name] != placement[op.name]:
                graph.add_edge(placement[maker.name], placement[op.name])
    return bool(nx.is_directed_acyclic_graph(graph))


def test_the_best_chain_is_the_best_plan_with_an_order() -> None:
    mixed = legal = proven = 0
    for seed in range(80):
        problem = pipeline(seed)
        assert applies(problem)
        try:
            instance = build_instance(problem)
        except NoHostLeftError:
            continue
        found = best_chain(instance)
        assert found is not None
        in_order = any_order = float("inf")
        for placement in placements(problem):
            result = evaluate(problem, placement)
            if result.violations:
                continue
            any_order = min(any_order, result.objective)
            if has_order(problem, placement):
                in_order = min(in_order, result.objective)
        assert found.bound_s <= any_order * (1 + 1e-9)
        if found.host_of_unit is None:
            assert in_order == float("inf")
            continue
        legal += 1
        placement = instance.placement(found.host_of_unit)
        result = evaluate(problem, placement)
        assert result.violations == ()
        assert result.objective == pytest.approx(in_order, rel=1e-9)
        proven += found.bound_s == pytest.approx(result.objective)
        mixed += len(set(placement.values())) > 1
    assert legal > 40 and mixed > 30 and proven > 15


def test_the_optimum_is_that_of_all_placements() -> None:
    by_downsets = 0
    for seed in range(200, 240):
        problem = pipeline(seed)
        best, placement, _ = brute_force(problem)
        answer = solve(problem)
        if placement is None:
            assert answer.status == "infeasible"
            continue
        assert answer.status == "optimal"
        assert answer.objective == pytest.approx(best, rel=2e-6)
        by_downsets += answer.solver == "downsets"
    assert by_downsets > 8


def test_hosts_that_wait_for_each_other_may_be_better_than_any_order() -> None:
    """a -> d and c -> b: h1 has a and b, h2 has c and d; no path leaves a host and comes back."""
    data: dict[str, Any] = {
        "objective": "throughput",
        "hosts": [{"name": name, "bus_seconds_per_byte": 0.0} for name in ("h1", "h2")],
        "bus": {"hosts": ["h1", "h2"]},
        "ops": [
            {"name": "a", "outputs": ["ta"], "cost_s": {"h1": 1.0, "h2": 9.0}},
            {"name": "c", "outputs": ["tc"], "cost_s": {"h1": 9.0, "h2": 1.0}},
            {"name": "b", "inputs": ["tc"], "outputs": [], "cost_s": {"h1": 1.0, "h2": 9.0}},
            {"name": "d", "inputs": ["ta"], "outputs": [], "cost_s": {"h1": 9.0, "h2": 1.0}},
        ],
        "tensors": [{"name": "ta", "size_bytes": 1}, {"name": "tc", "size_bytes": 1}],
        "constraints": {"contiguous": True},
    }
    problem = Problem.from_dict(data)
    answer = solve(problem)
    assert answer.objective == pytest.approx(2.0)
    assert answer.placement == {"a": "h1", "b": "h1", "c": "h2", "d": "h2"}
    assert answer.solver == "highs"


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "latency"},
        {"constraints": {"contiguous": False}},
        {"constraints": {"contiguous": True, "monotone": True}},
        {"constraints": {"contiguous": True, "deadline_s": 100.0}},
        {"codecs": [{"name": "half", "ratio": 0.5}]},
    ],
)
def test_other_problems_are_left_to_the_integer_program(change: dict[str, Any]) -> None:
    data = pipeline(3).to_dict()
    assert not applies(Problem.from_dict(data | change))
