"""The parallel schedule on random problems."""

from __future__ import annotations

import random

import pytest

from partc.optimizer import Problem, evaluate, simulate
from tests.optimizer.random_problems import random_problem


@pytest.mark.parametrize("shape", ["chain", "star", "ring", "mesh", "bus", "shared-bus"])
def test_never_worse_than_sequential_and_never_two_things_at_once(shape: str) -> None:
    faster = 0
    for seed in range(60):
        data = random_problem(seed, hosts=4 if shape == "ring" else 3, ops=12, shape=shape)
        data["codecs"] = [{"name": "c", "ratio": 0.5, "encode_s_per_byte": 0.1}]
        problem = Problem.from_dict(data)
        generator = random.Random(seed)
        placement = {op.name: generator.choice(list(op.cost_s)) for op in problem.ops}
        codec = generator.choice(["none", "c"])
        codecs = {
            (t.tensor, t.source, t.destination): codec
            for t in evaluate(problem, placement).transfers
        }
        sequential_s = evaluate(problem, placement, codecs).latency_s
        schedule = simulate(problem, placement, codecs)
        assert schedule.latency_s <= sequential_s * (1 + 1e-12)
        assert sum(s.end_s - s.start_s for s in schedule.steps) == pytest.approx(sequential_s)
        faster += schedule.latency_s < sequential_s * 0.99
        free_from: dict[str, float] = {}
        for step in sorted(schedule.steps, key=lambda s: (s.start_s, s.end_s)):
            for resource in filter(None, (step.resource, step.also)):
                assert step.start_s >= free_from.get(resource, 0.0) - 1e-12
                free_from[resource] = step.end_s
        ends = {step.what: step.end_s for step in schedule.steps}
        starts = {step.what: step.start_s for step in schedule.steps}
        for op in problem.ops:
            for tensor in op.inputs:
                maker = problem.producer_of.get(tensor)
                if maker is not None:
                    assert starts[op.name] >= ends[maker.name] - 1e-12
    assert faster > 20
