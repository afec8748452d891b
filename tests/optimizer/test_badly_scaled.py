"""Costs and limits that are nine orders of magnitude apart, against every placement."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partc.optimizer import Problem, conflicts, evaluate, solve, solving
from partc.optimizer.highs import RawResult
from partc.optimizer.instance import NoHostLeftError, build_instance
from partc.optimizer.linear import Arrays
from partc.optimizer.tightening import tighten
from tests.optimizer.random_problems import brute_force, placements, random_problem

SHAPES = [("chain", 2, 5), ("chain", 3, 3), ("star", 3, 3), ("bus", 3, 3), ("bus", 2, 5)]
LIMITS = ("deadline", "energy", "memory", "loss", "period")


def badly_scaled(seed: int) -> Problem:
    """A small problem whose costs, sizes, losses and one or two limits are of any size."""
    generator = random.Random(seed)
    shape, hosts, ops = generator.choice(SHAPES)
    objective = generator.choice(["latency", "throughput", "energy"])
    data = random_problem(
        generator.randrange(10**6), hosts=hosts, ops=ops, shape=shape, objective=objective
    )

    def size() -> float:
        return float(10.0 ** generator.randint(-6, 4))

    for op in data["ops"]:
        op["cost_s"] = {host: seconds * size() for host, seconds in op["cost_s"].items()}
    for link in data.get("links", []):
        factor = generator.choice([1.0, size()])
        for key in ("seconds_per_byte", "latency_s"):
            link[key] = [value * factor for value in link[key]]
    for weight in data["weights"]:
        weight["size_bytes"] *= 10.0 ** generator.randint(0, 9)
    chosen = generator.sample(LIMITS, generator.choice([1, 1, 2]))
    _limit(data, chosen, generator, size)
    return Problem.from_dict(data)


def _limit(data: dict[str, Any], chosen: list[str], generator: random.Random, size: Any) -> None:
    """Limits near what some plan needs, or far below."""
    problem = Problem.from_dict(data)
    some = evaluate(problem, generator.choice(list(placements(problem))))
    factor = generator.choice([1.001, 0.999, 0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
    limits = data["constraints"]
    if "deadline" in chosen:
        limits["deadline_s"] = some.latency_s * factor
    if "energy" in chosen:
        limits["energy_j"] = {"h0": some.energy_j["h0"] * factor}
    if "period" in chosen:
        limits["period_s"] = some.bottleneck_s * factor
    if "memory" in chosen:
        for host in data["hosts"]:
            host["memory_bytes"] = some.memory_bytes[host["name"]] * factor
    if "loss" in chosen:
        losses = [generator.choice([1e-9, 1e-3, 1.0]), generator.choice([1e-6, 1.0, 300.0])]
        data["codecs"] = [
            {"name": "a", "ratio": 0.5, "loss": losses[0]},
            {"name": "b", "ratio": 0.25, "loss": losses[1], "encode_s_per_byte": 1e-3 * size()},
        ]
        limits["loss_budget"] = generator.choice([0.0, 1e-9, 2e-6, 1e-3, 1.0, 300.0])


def _stricter(problem: Problem) -> Problem:
    """Limits lowered by more than what is granted to rounding."""
    factor = 1 - 3e-6
    limits = problem.constraints
    hosts = tuple(
        host.model_copy(update={"memory_bytes": host.memory_bytes * factor - 1e-11})
        if host.memory_bytes
        else host
        for host in problem.hosts
    )

    def less(value: float | None) -> float | None:
        return None if value is None else max(value * factor - 1e-11, 0.0)

    return problem.changed(hosts=hosts).constrained(
        deadline_s=less(limits.deadline_s),
        period_s=less(limits.period_s),
        loss_budget=less(limits.loss_budget),
        energy_j={name: less(joules) for name, joules in limits.energy_j.items()},
    )


def check(seed: int) -> bool:
    """Whether the problem has a plan; the answer must say so, and be the best."""
    problem = badly_scaled(seed)
    most_granted, placement, _ = brute_force(problem)
    answer = solve(problem)
    if placement is None:
        assert answer.status == "infeasible"
        assert answer.conflicts
        return False
    least_granted, _, _ = brute_force(_stricter(problem))
    if answer.objective is None:
        assert least_granted == float("inf"), "a plan that keeps well within all limits is missed"
        assert answer.status == "infeasible"
        return False
    assert answer.status == "optimal"
    assert answer.evaluation is not None and not answer.evaluation.violations
    assert most_granted * (1 - 2e-6) - 1e-12 <= answer.objective
    assert answer.objective <= least_granted * (1 + 2e-6) + 1e-12
    return True


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_the_answer_is_true(seed: int) -> None:
    check(seed)


@pytest.mark.slow
def test_many_answers_are_true() -> None:
    legal = sum(check(seed) for seed in range(1000, 2500))
    assert 300 < legal < 1200


@pytest.mark.parametrize("seed", [1256, 1168])
def test_what_was_once_an_error(seed: int) -> None:
    """Losses a billion times apart let a solver's rounding break the budget."""
    check(seed)


def test_a_deadline_a_billion_times_below_the_costs_is_infeasible() -> None:
    data = random_problem(3, hosts=2, ops=6)
    for index, op in enumerate(data["ops"]):
        op["cost_s"] = {"h0": 1e-5 * (index + 1), "h1": 1e4}
    data["constraints"] = {"deadline_s": 1e-5}
    answer = solve(Problem.from_dict(data))
    assert answer.status == "infeasible"
    assert answer.conflicts == ("The latency must be at most 1e-05 s.",)


def test_tightening_keeps_every_legal_plan() -> None:
    left_out = 0
    for seed in range(300):
        problem = badly_scaled(seed)
        best, _, _ = brute_force(problem)
        instance = build_instance(problem)
        try:
            tight = tighten(instance, best_known=None if best == float("inf") else best * 1.5)
        except NoHostLeftError:
            assert best == float("inf")
            continue
        left_out += sum(map(len, instance.cost_s)) - sum(map(len, tight.cost_s))
        for placement in placements(problem):
            result = evaluate(problem, placement)
            if result.violations or result.objective > best * 1.5:
                continue
            for op, host in placement.items():
                unit = tight.unit_of[op]
                assert problem.host_names.index(host) in tight.cost_s[unit]
    assert left_out > 100


def test_a_solver_that_insists_on_a_broken_plan_gives_no_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither an error nor a lie: what is known is returned, or nothing."""
    data = random_problem(5, hosts=3, ops=6, shape="star")
    for host in data["hosts"]:
        host["memory_bytes"] = 14
    problem = Problem.from_dict(data)
    best, _, _ = brute_force(problem)

    def insists(arrays: Arrays, **_: Any) -> RawResult:
        return RawResult("optimal", np.zeros(len(arrays.cost)), 0.0, 0.0)

    monkeypatch.setattr(solving, "solve_guarded", insists)
    monkeypatch.setattr(solving, "run_cbc", lambda model, **_: insists(model.arrays()))
    monkeypatch.setattr(conflicts, "solve_guarded", insists)
    answer = solve(problem)
    assert answer.status in ("feasible", "timeout")
    if answer.objective is not None:
        assert answer.objective >= best * (1 - 1e-6)
        assert answer.evaluation is not None and not answer.evaluation.violations
