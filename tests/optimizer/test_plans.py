"""Simple plans, conflicts, fronts, portfolios and large graphs."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import numpy as np
import pytest

from partc.errors import InfeasibleError, UsageError
from partc.optimizer import (
    Conditions,
    Problem,
    baselines,
    evaluate,
    minimum_cut,
    pareto_front,
    portfolio,
    solve,
)
from partc.optimizer.balancing import balanced_split
from partc.optimizer.conditions import Point
from tests.optimizer.random_problems import placements, random_problem

NAMES = {
    "device-only",
    "edge-only",
    "single-cut",
    "minimum-cut",
    "greedy",
    "even-split",
    "random",
}


# Simple plans


def test_baselines_are_legal_and_never_better_than_the_optimum() -> None:
    seen: set[str] = set()
    for seed in range(30):
        data = random_problem(seed, hosts=2 + seed % 2, ops=12, shape="star")
        if seed % 3 == 0:
            data["hosts"][1]["memory_bytes"] = 25
        problem = Problem.from_dict(data)
        plans = baselines(problem)
        assert set(plans) | set(plans.absent) == NAMES
        assert not set(plans) & set(plans.absent)
        best = solve(problem).objective
        assert best is not None
        for name, plan in plans.items():
            seen.add(name)
            assert plan.objective is not None
            assert plan.objective >= best * (1 - 1e-6)
            assert not evaluate(problem, plan.placement).violations
            assert plan.solver == name
    assert seen == NAMES


def test_device_only_and_edge_only_mean_what_they_say() -> None:
    data = random_problem(3, hosts=3, ops=8, shape="star")
    for op in data["ops"]:
        op["cost_s"] = {"h0": 9, "h1": 4, "h2": 1}
    plans = baselines(Problem.from_dict(data))
    assert set(plans["device-only"].placement.values()) == {"h0"}
    assert set(plans["edge-only"].placement.values()) == {"h2"}


def test_single_cut_is_the_best_prefix_through_one_tensor() -> None:
    data = random_problem(0, ops=1)
    sizes = [8, 2, 5, 1, 9]
    data["ops"] = [
        {
            "name": f"op{k}",
            "inputs": [f"t{k}"],
            "outputs": [f"t{k + 1}"],
            "cost_s": {"h0": 5, "h1": 1},
        }
        for k in range(5)
    ]
    data["tensors"] = [{"name": "t0", "size_bytes": 50}]
    data["tensors"] += [{"name": f"t{k + 1}", "size_bytes": size} for k, size in enumerate(sizes)]
    data["links"] = [{"between": ["h0", "h1"], "seconds_per_byte": [1, 0]}]
    data["inputs"], data["outputs"] = {"t0": "h0"}, {"t5": "h0"}
    plan = baselines(Problem.from_dict(data))["single-cut"]
    assert plan.objective == pytest.approx(2 * 5 + 2 + 3 * 1)  # after op1, through t2 of 2 bytes


def test_absent_baselines_say_why() -> None:
    data = random_problem(1, ops=6)
    for op in data["ops"]:
        op["cost_s"] = {"h0": 1, "h1": 2}
    del data["ops"][2]["cost_s"]["h0"]
    plans = baselines(Problem.from_dict(data))
    assert plans.absent["device-only"] == "Op 'op2' cannot run on host 'h0'."


# Conflicts


def _chain(**constraints: Any) -> dict[str, Any]:
    return {
        "hosts": [{"name": "camera"}, {"name": "server"}],
        "links": [{"between": ["camera", "server"], "seconds_per_byte": [1.0, 1.0]}],
        "ops": [
            {
                "name": name,
                "inputs": [f"t{k}"],
                "outputs": [f"t{k + 1}"],
                "cost_s": {"camera": 4, "server": 1},
                "weights": [f"w{k}"],
            }
            for k, name in enumerate("abcd")
        ],
        "tensors": [{"name": f"t{k}", "size_bytes": 3} for k in range(5)],
        "weights": [{"name": f"w{k}", "size_bytes": 10} for k in range(4)],
        "inputs": {"t0": "camera"},
        "outputs": {"t4": "camera"},
        "constraints": constraints,
    }


@pytest.mark.parametrize(
    ("constraints", "memory", "sentences"),
    [
        (
            {"pinned": {"a": "camera", "b": "server"}, "together": [["a", "b"]], "deadline_s": 50},
            (None, None),
            {
                "Op 'a' is pinned to host 'camera'.",
                "Op 'b' is pinned to host 'server'.",
                "Ops 'a', 'b' must share a host.",
            },
        ),
        ({"deadline_s": 9}, (None, 40), {"The latency must be at most 9 s."}),
        (
            {"deadline_s": 12, "pinned": {"c": "camera"}, "monotone": True},
            (None, None),
            {"The latency must be at most 12 s.", "Op 'c' is pinned to host 'camera'."},
        ),
        (
            {},
            (15, 15),
            {"Host 'camera' has 15 bytes of memory.", "Host 'server' has 15 bytes of memory."},
        ),
        (
            {"keep_local": ["t2"], "pinned": {"b": "camera"}, "forbidden": {"c": ["camera"]}},
            (None, None),
            {
                "Op 'b' is pinned to host 'camera'.",
                "Op 'c' is forbidden on 'camera'.",
                "Tensor 't2' must stay on the host where it arises.",
            },
        ),
        (
            {"period_s": 7, "forbidden": {"a": ["server"], "b": ["server"]}},
            (None, None),
            {
                "No host or link may be busy for more than 7 s of a request.",
                "Op 'a' is forbidden on 'server'.",
                "Op 'b' is forbidden on 'server'.",
            },
        ),
    ],
)
def test_the_smallest_conflict_in_the_users_words(
    constraints: dict[str, Any], memory: tuple[float | None, float | None], sentences: set[str]
) -> None:
    data = _chain(**constraints)
    for host, size_bytes in zip(data["hosts"], memory, strict=True):
        host["memory_bytes"] = size_bytes
    answer = solve(Problem.from_dict(data))
    assert answer.status == "infeasible"
    assert set(answer.conflicts) == sentences
    with pytest.raises(InfeasibleError) as error:
        answer.require_plan()
    assert all(sentence in str(error.value) for sentence in sentences)


def test_an_op_without_hosts_is_named() -> None:
    data = _chain()
    data["ops"][1]["cost_s"] = {}
    for answer in (solve(Problem.from_dict(data)), minimum_cut(Problem.from_dict(data))):
        assert answer.status == "infeasible"
        assert answer.conflicts == ("No host can run op 'b'.",)


def test_a_pin_on_a_host_that_cannot_run_the_op() -> None:
    data = _chain(pinned={"b": "server"})
    del data["ops"][1]["cost_s"]["server"]
    answer = solve(Problem.from_dict(data))
    assert answer.conflicts == ("Op 'b' is pinned to host 'server', which cannot run it.",)


# Fronts


@pytest.mark.parametrize(
    "objectives",
    [("latency", "energy"), ("energy", "throughput"), ("throughput", "latency")],
)
def test_front_is_all_undominated_plans(objectives: tuple[Any, Any]) -> None:
    several = 0
    for seed in range(4):
        data = random_problem(seed, ops=6)
        data["energy_hosts"] = ["h0"]
        problem = Problem.from_dict(data)
        everything = set()
        for placement in placements(problem):
            result = evaluate(problem, placement)
            values = {
                "latency": result.latency_s,
                "throughput": result.bottleneck_s,
                "energy": result.energy_j["h0"],
            }
            everything.add((values[objectives[0]], values[objectives[1]]))
        expected: list[tuple[float, float]] = []
        for point in sorted(everything):
            if not expected or point[1] < expected[-1][1] * (1 - 1e-6):
                expected.append(point)
        front = pareto_front(problem, objectives, most_points=None)
        assert front.complete
        assert np.allclose([point.values for point in front.points], expected, rtol=1e-5)
        several += len(expected) > 1
    assert several >= 2


def test_front_needs_two_objectives() -> None:
    problem = Problem.from_dict(_chain())
    with pytest.raises(UsageError):
        pareto_front(problem, ("latency", "latency"))
    with pytest.raises(InfeasibleError):
        pareto_front(problem.constrained(deadline_s=0.001))


def test_a_coarse_front_says_that_it_is_a_sample() -> None:
    data = random_problem(2, ops=12)
    data["energy_hosts"] = ["h0"]
    problem = Problem.from_dict(data)
    whole = pareto_front(problem, most_points=None)
    coarse = pareto_front(problem, most_points=2)
    assert len(whole.points) > len(coarse.points)
    assert not coarse.complete


# Portfolios


@pytest.mark.parametrize("hosts", [2, 3])
@pytest.mark.parametrize("accuracy", [0.0, None])
def test_portfolio_is_within_tolerance_on_a_dense_grid(hosts: int, accuracy: float | None) -> None:
    for seed in range(2 if hosts == 3 else 4):
        data = random_problem(seed, hosts=hosts, ops=10, shape="star", outputs_anywhere=False)
        for op in data["ops"]:
            op["cost_s"] = {host: 20 - 6 * k for k, host in enumerate(["h0", "h1", "h2"][:hosts])}
        data["codecs"] = [{"name": "half", "ratio": 0.5, "encode_s_per_byte": 0.01}]
        problem = Problem.from_dict(data)
        conditions = Conditions((1e-6, 1e-3), (0.0, 2.0), (1.0, 4.0), (0.5, 5.0))
        found = portfolio(problem, conditions, tolerance=0.05, accuracy=accuracy)
        assert found.certified_fraction == pytest.approx(1.0)
        first = problem.links[0]
        for bandwidth, rtt_s, device, server in itertools.product(
            np.geomspace(1e-6, 1e-3, 4), (0.0, 0.7, 2.0), (1.0, 2.5, 4.0), (0.5, 2.0, 5.0)
        ):
            changed = problem.to_dict()
            for link in changed["links"]:
                scale = 8e-6 / bandwidth / first.seconds_per_byte[0]
                link["seconds_per_byte"] = [s * scale for s in link["seconds_per_byte"]]
                wait = rtt_s / sum(first.latency_s)
                link["latency_s"] = [s * wait for s in link["latency_s"]]
            for op in changed["ops"]:
                for host in op["cost_s"]:
                    op["cost_s"][host] *= device if host == "h0" else server
            there = Problem.from_dict(changed)
            best = solve(there).objective
            assert best is not None
            point = Point(float(bandwidth), rtt_s, device, server)
            plan = found.best_at(point)
            truth = evaluate(there, plan.placement, plan.codecs)
            assert plan.cost.latency_s(point) == pytest.approx(truth.objective, rel=1e-9)
            assert truth.objective <= best * 1.05 * (1 + 1e-6)
        assert any(set(plan.placement.values()) == {"h0"} for plan in found.plans)
        for lost in ["h1", "h2"][: hosts - 1]:
            assert any(lost in plan.survives for plan in found.plans)


def test_portfolio_refuses_what_it_cannot_certify() -> None:
    problem = Problem.from_dict(random_problem(1))
    with pytest.raises(UsageError, match="deadline"):
        portfolio(problem.constrained(deadline_s=1.0), Conditions((1, 2)))
    with pytest.raises(UsageError, match="bandwidth_mbit_s"):
        portfolio(problem, Conditions((2, 1)))
    with pytest.raises(UsageError, match="latency objective"):
        portfolio(problem.changed(objective="energy"), Conditions((1, 2)))


# Shapes and sizes


def test_a_tensor_read_twenty_times_is_sent_once() -> None:
    data = _chain()
    data["ops"] = [
        {"name": f"o{k}", "inputs": ["t0"], "outputs": [], "cost_s": {"camera": 2, "server": 1}}
        for k in range(20)
    ]
    data["outputs"] = {}
    answer = solve(Problem.from_dict(data))
    assert answer.objective == pytest.approx(20 + 3)
    assert len(answer.transfers) == 1


def test_constants_only_no_ops_and_inputs_that_are_outputs() -> None:
    data = _chain()
    data["ops"] = [
        {"name": "c", "inputs": [], "outputs": ["t4"], "cost_s": {"camera": 9, "server": 1}}
    ]
    answer = solve(Problem.from_dict(data))
    assert answer.placement == {"c": "server"}
    assert answer.objective == pytest.approx(1 + 3)
    data["ops"] = []
    data["outputs"] = {"t0": "server"}
    answer = solve(Problem.from_dict(data))
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(3)


def test_one_host_and_free_everything() -> None:
    data = _chain()
    data["hosts"], data["links"] = data["hosts"][:1], []
    for op in data["ops"]:
        op["cost_s"] = {"camera": 0}
    answer = solve(Problem.from_dict(data))
    assert (answer.status, answer.objective, answer.gap) == ("optimal", 0.0, 0.0)


def test_ten_thousand_ops() -> None:
    generator = random.Random(1)
    data = random_problem(1, ops=1)
    data["tensors"] = [{"name": "t0", "size_bytes": 1e6}]
    data["ops"] = []
    for k in range(10_000):
        inputs = sorted({f"t{k}", f"t{max(0, k - generator.choice([0, 0, 0, 2, 3]))}"})
        work = generator.uniform(1e-5, 1e-3)
        cost_s = {"h0": work * generator.uniform(1, 9), "h1": work}
        data["ops"].append(
            {"name": f"o{k}", "inputs": inputs, "outputs": [f"t{k + 1}"], "cost_s": cost_s}
        )
        size_bytes = generator.choice([1e3, 1e5, 1e6])
        data["tensors"].append({"name": f"t{k + 1}", "size_bytes": size_bytes})
    data["links"] = [{"between": ["h0", "h1"], "seconds_per_byte": [1e-8, 1e-8]}]
    data["inputs"], data["outputs"] = {"t0": "h0"}, {"t10000": "h0"}
    problem = Problem.from_dict(data)
    began = time.perf_counter()
    answer = solve(problem)
    took_s = time.perf_counter() - began
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(minimum_cut(problem).objective, rel=1e-7)
    assert set(answer.placement.values()) == {"h0", "h1"}
    assert took_s < 30


def test_balanced_split_is_the_best_cut_of_the_order() -> None:
    tried = 0
    for seed in range(30):
        data = random_problem(seed, hosts=3, ops=7, shape="bus", objective="throughput")
        data["bus"]["serial"] = True
        data["outputs"], data["weights"] = {}, []
        for op in data["ops"]:
            op["weights"] = []
            op["inputs"] = [name for name in op["inputs"] if name != "x"]
        for host in data["hosts"]:
            host["bus_latency_s"] = 0
        problem = Problem.from_dict(data)
        names = [op.name for op in problem.ordered_ops]
        found = balanced_split(problem)
        best = float("inf")
        for first, second in itertools.combinations_with_replacement(range(8), 2):
            hosts = ["h0"] * first + ["h1"] * (second - first) + ["h2"] * (7 - second)
            result = evaluate(problem, dict(zip(names, hosts, strict=True)))
            if not result.violations:
                best = min(best, result.objective)
        if found is None:
            assert best == float("inf")
            continue
        tried += 1
        assert evaluate(problem, found).objective == pytest.approx(best)
        plan = baselines(problem, names=["balanced-split"])["balanced-split"]
        assert plan.objective == pytest.approx(best)
    assert tried > 10
