"""Conflicts are smallest: no smaller set of constraints has no plan."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from partc.optimizer import Problem, conflicts, evaluate, explain_conflict
from tests.optimizer.random_problems import placements, random_problem


def over_constrained(seed: int) -> Problem:
    """Small, with many constraints of several kinds."""
    generator = random.Random(seed)
    data = random_problem(seed, hosts=2 + seed % 2, ops=5, shape="ring")
    names = [host["name"] for host in data["hosts"]]
    ops = [op["name"] for op in data["ops"]]
    for host in data["hosts"]:
        if generator.random() < 0.7:
            host["memory_bytes"] = generator.choice([18, 22, 26])
    limits: dict[str, Any] = {}
    able = {op["name"]: list(op["cost_s"]) for op in data["ops"]}
    limits["pinned"] = {op: generator.choice(able[op]) for op in generator.sample(ops, 2)}
    limits["forbidden"] = {
        op: [generator.choice(names)] for op in generator.sample(ops, 2) if len(able[op]) > 1
    }
    limits["together"] = [generator.sample(ops, 2), generator.sample(ops, 2)]
    limits["keep_local"] = [generator.choice(["x", "t0", "t1"])]
    limits["deadline_s"] = generator.choice([60, 80, 100])
    limits["monotone"] = generator.random() < 0.5
    data["constraints"] = limits
    return Problem.from_dict(data)


def fewest(problem: Problem) -> int | None:
    """How few constraints conflict, by trying every set of them; None without any conflict."""
    demands = conflicts._demands(problem)
    bare = conflicts._without_constraints(problem)
    alone = [demand.apply(bare) for demand in demands]
    kept = {
        frozenset(k for k, one in enumerate(alone) if not evaluate(one, placement).violations)
        for placement in placements(bare)
    }
    for size in range(1, len(demands) + 1):
        for chosen in itertools.combinations(range(len(demands)), size):
            if not any(set(chosen) <= each for each in kept):
                return size
    return None


def test_no_fewer_constraints_conflict() -> None:
    sizes: dict[int, int] = {}
    for seed in range(60):
        problem = over_constrained(seed)
        size = fewest(problem)
        if size is None:
            continue
        why = explain_conflict(problem)
        assert why.kind == "smallest"
        assert len(why.sentences) == len(set(why.sentences)) == size
        sizes[size] = sizes.get(size, 0) + 1
    assert sum(count for size, count in sizes.items() if size >= 3) >= 4, sizes
    assert len(sizes) >= 3


def test_a_small_conflict_is_found_behind_a_larger_one() -> None:
    """A deletion filter alone ends in the conflict that it meets last."""
    data = random_problem(1, hosts=2, ops=5)
    for op in data["ops"]:
        op["cost_s"] = {"h0": 5.0, "h1": 5.0}
    data["constraints"] = {
        "together": [["op0", "op1"], ["op1", "op2"], ["op2", "op3"]],
        "pinned": {"op0": "h0", "op3": "h1"},
        "deadline_s": 24.0,
    }
    why = explain_conflict(Problem.from_dict(data))
    assert why.sentences == ("The latency must be at most 24 s.",)
    assert why.kind == "smallest"


def test_without_time_nothing_is_claimed() -> None:
    problem = over_constrained(next(s for s in range(60) if fewest(over_constrained(s)) == 3))
    why = explain_conflict(problem, time_limit_s=1e-9)
    assert why.kind == "conflicting"
    assert len(why.sentences) >= 3


def test_when_the_time_ends_early_the_set_is_called_irreducible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = over_constrained(next(s for s in range(60) if fewest(over_constrained(s)) == 3))

    def stops(*_: Any) -> None:
        raise conflicts._OutOfTimeError

    monkeypatch.setattr(conflicts._Search, "_hitting", stops)
    why = explain_conflict(problem)
    assert why.kind == "irreducible"
    assert len(why.sentences) >= 3
