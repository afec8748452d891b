"""The best codecs of a given placement, against every choice; and simple plans with theirs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from partc.optimizer import Problem, baselines, break_even, evaluate, solve
from partc.optimizer.codec_choice import best_codecs
from tests.optimizer.random_problems import codec_choices, placements, random_problem

CODECS: list[dict[str, Any]] = [
    {"name": "fp16", "ratio": 0.5, "loss": 0.01},
    {"name": "int8", "ratio": 0.25, "loss": 0.03, "encode_s_per_byte": 0.02},
]


def with_codecs(seed: int, shape: str, objective: str) -> Problem:
    generator = random.Random(seed)
    data = random_problem(seed, hosts=3, ops=5, shape=shape, objective=objective)
    data["codecs"] = CODECS
    data["tensors"][1]["codecs"] = {"fp16": None, "int8": {"ratio": 0.3, "loss": 0.02}}
    data["constraints"] = {"loss_budget": generator.choice([0.0, 0.02, 0.045, 0.07])}
    if generator.random() < 0.3:
        data["constraints"]["deadline_s"] = 60.0
    data["hosts"][seed % 3]["codec_factors"] = {"int8": {"encode": 5.0, "decode": 0.5}}
    return Problem.from_dict(data)


@pytest.mark.parametrize("shape", ["chain", "ring", "bus", "shared-bus"])
@pytest.mark.parametrize("objective", ["latency", "throughput", "energy"])
def test_no_other_choice_is_better(shape: str, objective: str) -> None:
    used = 0
    for seed in range(8):
        problem = with_codecs(seed, shape, objective)
        placement = random.Random(seed).choice(list(placements(problem)))
        if len(evaluate(problem, placement).transfers) > 6:
            continue
        values = [
            result.objective
            for codecs in codec_choices(problem, placement)
            if not (result := evaluate(problem, placement, codecs)).violations
        ]
        chosen = best_codecs(problem, placement)
        if not values:
            assert chosen is None
            continue
        assert chosen is not None
        result = evaluate(problem, placement, chosen)
        assert not result.violations
        assert result.objective == pytest.approx(min(values), rel=2e-6)
        used += bool(chosen)
    assert used >= 1


def test_simple_plans_have_their_best_codecs() -> None:
    faster = 0
    for seed in range(12):
        problem = with_codecs(seed, "star", "latency")
        best = solve(problem).objective
        plain = baselines(problem, codecs=False)
        for name, plan in baselines(problem).items():
            assert plan.objective is not None
            assert best is not None and plan.objective >= best * (1 - 1e-6)
            assert not evaluate(problem, plan.placement, plan.codecs).violations
            if name in plain:
                other = plain[name].objective
                assert other is not None and plan.objective <= other * (1 + 1e-9)
                assert plain[name].codecs == {}
                faster += plan.objective < other * 0.999
    assert faster > 10


def test_a_plan_may_be_legal_only_with_codecs() -> None:
    data = random_problem(2, hosts=2, ops=4)
    for op in data["ops"]:
        op["cost_s"] = {"h0": 100.0, "h1": 1.0}
    data["codecs"] = [{"name": "half", "ratio": 0.5}]
    edge = {op["name"]: "h1" for op in data["ops"]}
    slow = evaluate(Problem.from_dict(data), edge).latency_s
    data["constraints"] = {"deadline_s": slow * 0.9}
    problem = Problem.from_dict(data)
    assert "edge-only" in baselines(problem)
    assert "deadline" in baselines(problem, codecs=False).absent["edge-only"]


def test_break_even_compares_hosts_alone_with_their_codecs() -> None:
    """One input arises on the server, so the device alone receives it, encoded where that pays."""
    found = 0
    for seed in range(60):
        data = random_problem(seed, hosts=2, ops=5, outputs_anywhere=True)
        data["ops"][0]["inputs"] = ["z"]
        data["tensors"].append({"name": "z", "size_bytes": 12})
        data["inputs"]["z"] = "h1"
        data["codecs"] = [{"name": "half", "ratio": 0.5, "encode_s_per_byte": 0.3}]
        base = data["links"][0]["seconds_per_byte"]

        def at(mbit_s: float, data: dict[str, Any] = data, base: list[float] = base) -> Problem:
            link = data["links"][0] | {"seconds_per_byte": [s / mbit_s for s in base]}
            return Problem.from_dict(data | {"links": [link]})

        alone = {op["name"]: "h0" for op in data["ops"]}
        if any("h0" not in op["cost_s"] for op in data["ops"]):
            continue
        even = break_even(at).bandwidth_mbit_s
        if not even:
            continue
        found += 1
        for factor, pays in ((1.01, True), (0.99, False)):
            problem = at(even * factor)
            best = solve(problem).objective
            device = evaluate(problem, alone, best_codecs(problem, alone)).objective
            assert best is not None
            assert (best < device * (1 - 1e-6)) is pays
    assert found >= 3
