"""The integer program against every placement, tried one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from partc.optimizer import Problem, solve
from tests.optimizer.random_problems import brute_force, random_problem

Change = Callable[[dict[str, Any], random.Random, float], None]
CODECS: list[dict[str, Any]] = [
    {"name": "fp16", "ratio": 0.5, "loss": 0.01},
    {"name": "int8", "ratio": 0.25, "loss": 0.03, "encode_s_per_byte": 0.02},
]


def _nothing(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    del data, generator, unit_s


def _constraint(name: str, *values: Any) -> Change:
    def change(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
        del unit_s
        data["constraints"][name] = generator.choice(values)

    return change


def _memory(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    del unit_s
    for host in data["hosts"]:
        host["memory_bytes"] = generator.choice([12, 20, 30])


def _activations(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    del unit_s
    data["constraints"]["activations"] = True
    for host in data["hosts"]:
        host["memory_bytes"] = generator.choice([30, 45, 60])


def _deadline(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    data["objective"] = "energy"
    data["energy_hosts"] = ["h0"]
    data["constraints"]["deadline_s"] = generator.choice([40, 60, 90]) * unit_s


def _period(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    data["constraints"]["period_s"] = generator.choice([20, 30, 40]) * unit_s


def _energy(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    data["constraints"]["energy_j"] = {"h0": generator.choice([20, 40, 80]) * unit_s}


def _codecs(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    data["codecs"] = [
        codec | {"encode_s_per_byte": codec.get("encode_s_per_byte", 0.0) * unit_s}
        for codec in CODECS
    ]
    data["hosts"][-1]["codec_factors"] = {"int8": {"encode": 0.0, "decode": 7.0}}
    data["tensors"][1]["codecs"] = {"fp16": None, "int8": {"ratio": 0.3, "loss": 0.02}}
    del generator


def _loss_budget(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    _codecs(data, generator, unit_s)
    data["constraints"]["loss_budget"] = generator.choice([0.0, 0.02, 0.045])


def _segments(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    del unit_s
    data["constraints"]["max_segments"] = {"h1": generator.choice([1, 2])}


def _everything(data: dict[str, Any], generator: random.Random, unit_s: float) -> None:
    for change in (_memory, _loss_budget, _energy, _segments):
        if generator.random() < 0.5:
            change(data, generator, unit_s)
    data["constraints"]["monotone"] = generator.random() < 0.3
    if generator.random() < 0.3:
        data["constraints"]["pinned"] = {"op1": "h1"}


CHANGES: dict[str, Change] = {
    "plain": _nothing,
    "monotone": _constraint("monotone", True),
    "contiguous": _constraint("contiguous", True),
    "segments": _segments,
    "pinned": _constraint("pinned", {"op1": "h1"}, {"op0": "h0", "op2": "h1"}),
    "forbidden": _constraint("forbidden", {"op2": ["h1"]}, {"op0": ["h0"]}),
    "together": _constraint("together", [["op0", "op2"]], [["op0", "op1", "op3"]]),
    "keep-local": _constraint("keep_local", ["x"], ["t0"], ["x", "t1"]),
    "memory": _memory,
    "activations": _activations,
    "deadline": _deadline,
    "period": _period,
    "energy": _energy,
    "codecs": _codecs,
    "loss-budget": _loss_budget,
    "everything": _everything,
}
SHAPES = [("pair", 2, "chain", 7), ("chain", 3, "chain", 5), ("star", 3, "star", 5)]
SHAPES += [
    ("triangle", 3, "ring", 5),
    ("mesh-of-four", 4, "mesh", 4),
    ("ring-of-four", 4, "ring", 4),
    ("shared-bus", 3, "shared-bus", 5),
]
SHAPES += [("bus", 3, "bus", 5), ("pair-bus", 2, "bus", 7)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("shape", "hosts", "kind", "ops"), SHAPES, ids=[s[0] for s in SHAPES])
def test_optimum_is_the_best_of_all_placements(
    change: str, shape: str, hosts: int, kind: str, ops: int
) -> None:
    mixed = solved = 0
    slow = "codecs" in change or change in ("loss-budget", "everything")
    for seed in range(4 if slow else 6):
        generator = random.Random(f"{change} {shape} {seed}")
        unit_s = generator.choice([1e-6, 1e-3, 1.0, 60.0])
        objective = generator.choice(["latency", "latency", "throughput", "energy"])
        data = random_problem(
            generator.randrange(10**6),
            hosts=hosts,
            ops=ops - 2 if slow else ops,
            shape=kind,
            objective=objective,
            unit_s=unit_s,
        )
        CHANGES[change](data, generator, unit_s)
        problem = Problem.from_dict(data)
        best, placement, _ = brute_force(problem)
        answer = solve(problem)
        if placement is None:
            assert answer.status == "infeasible", data
            assert answer.conflicts
            continue
        solved += 1
        mixed += len(set(placement.values())) > 1
        assert answer.status == "optimal", data
        assert answer.objective == pytest.approx(best, rel=2e-6, abs=1e-12 * unit_s), data
        assert answer.bound is not None
        assert answer.bound <= best * (1 + 2e-6) + 1e-12 * unit_s
        assert answer.evaluation is not None
        assert not answer.evaluation.violations
    assert solved >= 2, "too few of these problems have a plan to say anything"
    if change == "plain":
        assert mixed >= 2, "too few of the optima use several hosts"


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["chain", "star", "ring", "bus"])
def test_larger_problems(shape: str) -> None:
    mixed = total = 0
    for seed in range(40):
        two = seed % 2 == 0
        data = random_problem(
            seed,
            hosts=2 if two else 3,
            ops=10 if two else 7,
            shape="bus" if shape == "bus" else shape,
        )
        problem = Problem.from_dict(data)
        best, placement, _ = brute_force(problem)
        answer = solve(problem)
        total += 1
        assert placement is not None
        mixed += len(set(placement.values())) > 1
        assert answer.objective == pytest.approx(best, rel=2e-6)
    assert mixed >= total / 3
