"""The integer program against a shortest path, and against every plan, tried one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.optimizer import evaluate, solve
from partc.optimizer.horizontal import (
    HorizontalProblem,
    evaluate_horizontal,
    simulate_horizontal,
    solve_horizontal,
)
from tests.optimizer.horizontal.chains import mesh, random_horizontal
from tests.optimizer.horizontal.graphs import random_graph
from tests.optimizer.horizontal.oracles import brute_force, plans, shortest_path_s

Change = Callable[[dict[str, Any], random.Random], None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    servers=st.integers(2, 4),
    layers=st.integers(2, 7),
    vectors=st.integers(1, 3),
    one_radio=st.booleans(),
)
def test_without_caps_it_is_a_shortest_path_and_its_relaxation_integral(
    seed: int, servers: int, layers: int, vectors: int, one_radio: bool
) -> None:
    data = random_horizontal(seed, servers=servers, layers=layers, vectors=vectors)
    if one_radio:
        data["shared_ports"] = ["device"]
    problem = HorizontalProblem.from_dict(data)
    answer = solve_horizontal(problem)
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(shortest_path_s(data), rel=2e-6)
    assert answer.integral
    assert answer.evaluation is not None
    assert answer.evaluation.latency_s == answer.objective
    assert answer.simulated_latency_s is not None
    assert answer.simulated_latency_s <= answer.objective * (1 + 1e-12)


def test_a_good_share_of_the_optima_tile() -> None:
    tiled = several = 0
    for seed in range(40):
        data = random_horizontal(seed, servers=2 + seed % 3, layers=5)
        data["shared_ports"] = ["device"]
        answer = solve_horizontal(HorizontalProblem.from_dict(data))
        tiled += bool(answer.tiles)
        several += len(answer.tiles) > 1
    assert tiled >= 20
    assert several >= 10


def test_on_slow_links_nothing_tiles() -> None:
    for seed in range(20):
        data = random_horizontal(seed, servers=2 + seed % 3, layers=5)
        hosts = [host["name"] for host in data["hosts"]]
        data["links"] = mesh(hosts, 0.05, 0.05, 2e-3)
        assert not solve_horizontal(HorizontalProblem.from_dict(data)).tiles


@pytest.mark.parametrize("links", ["mesh", "star", "chain", "bus"])
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_without_arcs_it_is_the_placement_problem(objective: str, links: str) -> None:
    compared = 0
    for seed in range(8):
        data = random_graph(seed, blocks=3, links=links) | {"objective": objective}
        if seed % 2:
            CHANGES["memory"](data, random.Random(seed))
        data.pop("shared_ports", None)
        problem = HorizontalProblem.from_dict(data).untiled()
        answer, expected = solve_horizontal(problem), solve(problem.vertical)
        assert answer.status == expected.status
        if expected.objective is not None:
            compared += 1
            assert answer.objective == pytest.approx(expected.objective, rel=2e-6)
            assert evaluate(problem.vertical, answer.placement).objective == pytest.approx(
                answer.objective
            )
    assert compared >= 4


def _nothing(data: dict[str, Any], generator: random.Random) -> None:
    del data, generator


def _memory(data: dict[str, Any], generator: random.Random) -> None:
    for host in data["hosts"]:
        host["memory_bytes"] = generator.choice([4, 8, 12, 20])
    for arc in data["arcs"]:
        if generator.random() < 0.3:
            hosts = next(t for t in data["tilings"] if t["name"] == arc["tiling"])["hosts"]
            arc["weights"] = {hosts[0]: ["w0"], hosts[1]: []}


def _objective(name: str) -> Change:
    def change(data: dict[str, Any], generator: random.Random) -> None:
        data["objective"] = name
        if name == "energy" and generator.random() < 0.5:
            data["energy_hosts"] = ["device"]

    return change


def _limits(data: dict[str, Any], generator: random.Random) -> None:
    limits = data["constraints"]
    limits["deadline_s"] = generator.choice([20.0, 30.0, 50.0])
    data["objective"] = generator.choice(["energy", "throughput"])
    if generator.random() < 0.5:
        limits["energy_j"] = {"device": generator.choice([20.0, 40.0])}
    if generator.random() < 0.3:
        limits["period_s"] = generator.choice([10.0, 20.0])


def _places(data: dict[str, Any], generator: random.Random) -> None:
    names = [op["name"] for op in data["ops"]]
    limits = data["constraints"]
    chosen = generator.choice(["pinned", "forbidden", "together", "keep_local"])
    if chosen == "pinned":
        op = generator.choice(data["ops"])
        limits["pinned"] = {op["name"]: generator.choice(list(op["cost_s"]))}
    elif chosen == "forbidden":
        limits["forbidden"] = {generator.choice(names): [generator.choice(["s0", "device"])]}
    elif chosen == "together":
        limits["together"] = [generator.sample(names, 2)] if len(names) > 1 else []
    else:
        limits["keep_local"] = [generator.choice(["t0", "t1", "t2"])]


def _everything(data: dict[str, Any], generator: random.Random) -> None:
    for change in (_memory, _limits, _places):
        if generator.random() < 0.6:
            change(data, generator)


CHANGES: dict[str, Change] = {
    "plain": _nothing,
    "memory": _memory,
    "throughput": _objective("throughput"),
    "energy": _objective("energy"),
    "limits": _limits,
    "places": _places,
    "everything": _everything,
}


def _compare(change: str, links: str, seeds: range, blocks: int) -> tuple[int, int]:
    solved = tiled = 0
    for seed in seeds:
        data = random_graph(seed, blocks=blocks, links=links, tilings=1 + seed % 2)
        CHANGES[change](data, random.Random(seed))
        problem = HorizontalProblem.from_dict(data)
        best, plan = brute_force(problem)
        answer = solve_horizontal(problem)
        if plan is None:
            assert answer.status == "infeasible", data
            assert answer.conflicts, data
            continue
        solved += 1
        tiled += bool(plan.tiles)
        assert answer.status == "optimal", data
        assert answer.objective == pytest.approx(best, rel=2e-6, abs=1e-9), data
        assert answer.bound is not None
        assert answer.bound <= best * (1 + 2e-6)
        assert answer.evaluation is not None
        assert not answer.evaluation.violations
    return solved, tiled


@pytest.mark.parametrize("links", ["mesh", "star", "chain", "bus"])
@pytest.mark.parametrize("change", CHANGES)
def test_it_equals_brute_force(change: str, links: str) -> None:
    solved, tiled = _compare(change, links, range(6), 2)
    assert solved >= 2, "too few of these problems have a plan to say anything"
    if change == "plain":
        assert tiled >= 2, "too few of the optima tile"


@pytest.mark.slow
@pytest.mark.parametrize("links", ["mesh", "star", "chain", "bus"])
@pytest.mark.parametrize("change", CHANGES)
def test_larger_problems_equal_brute_force(change: str, links: str) -> None:
    solved, _ = _compare(change, links, range(100, 125), 3)
    assert solved >= 5


@pytest.mark.parametrize("links", ["mesh", "star", "chain", "bus"])
def test_simulated_is_never_worse_than_sequential_nor_two_things_at_once(links: str) -> None:
    faster = total = 0
    for seed in range(15):
        problem = HorizontalProblem.from_dict(random_graph(seed, blocks=3, links=links))
        generator = random.Random(seed)
        tried = [plan for plan in plans(problem) if plan.tiles]
        for plan in generator.sample(tried, min(20, len(tried))):
            try:
                sequential_s = evaluate_horizontal(problem, plan).latency_s
            except UsageError as error:
                assert "not tiled so" in str(error)
                continue
            schedule = simulate_horizontal(problem, plan)
            assert schedule.latency_s <= sequential_s * (1 + 1e-12)
            assert math.isfinite(schedule.latency_s)
            total += 1
            faster += schedule.latency_s < sequential_s * 0.99
            free_from: dict[str, float] = {}
            for step in sorted(schedule.steps, key=lambda s: (s.start_s, s.end_s)):
                assert step.start_s >= free_from.get(step.resource, 0.0) - 1e-9
                free_from[step.resource] = step.end_s
    assert total > 50
    assert faster > total / 5
