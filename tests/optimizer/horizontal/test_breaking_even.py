"""From which link speed on tiling pays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from partc.errors import UsageError
from partc.optimizer.horizontal import (
    HorizontalProblem,
    horizontal_break_even,
    solve_horizontal,
    tiling_verdict,
    with_bandwidth,
)
from tests.optimizer.horizontal.chains import random_horizontal

SERVERS = ("s0", "s1")


def two_servers(seed: int) -> HorizontalProblem:
    """The input is on one of two servers; a device behind a slow link is of no use."""
    data = random_horizontal(seed, layers=6)
    for op in data["ops"]:
        del op["cost_s"]["device"]
    data["inputs"] = {"t0": "s0"}
    data["outputs"] = dict.fromkeys(data["outputs"], "s0")
    del data["routes"]
    data["links"] = [
        {"between": ["s0", "s1"], "seconds_per_byte": [1.0, 1.0], "latency_s": [1e-4, 1e-4]},
        {"between": ["s0", "device"], "seconds_per_byte": [1.0, 1.0]},
    ]
    return HorizontalProblem.from_dict(data)


def at_bandwidth(problem: HorizontalProblem) -> Callable[[float], HorizontalProblem]:
    return lambda mbit: with_bandwidth(problem, SERVERS, mbit)


def test_it_pays_above_and_not_below() -> None:
    found = 0
    for seed in range(8):
        problem = two_servers(seed)
        problem_at = at_bandwidth(problem)
        even = horizontal_break_even(problem_at)
        if even.bandwidth_mbit_s is None:
            at = problem_at(float("inf"))
            assert not solve_horizontal(at).tiles
            continue
        assert even.bandwidth_mbit_s > 0
        found += 1
        for factor, pays in ((1.02, True), (20.0, True), (0.95, False)):
            at = problem_at(even.bandwidth_mbit_s * factor)
            best, without = solve_horizontal(at), solve_horizontal(at.untiled())
            assert best.objective is not None and without.objective is not None
            assert (best.objective < without.objective * (1 - 1e-7)) == pays
            forced = solve_horizontal(at, must_tile=True)
            assert forced.tiles
            text = tiling_verdict(best, without, tiled=forced, break_even=even)
            assert ("does not pay" in text) != pays
            assert "Mbit/s" in text
    assert found >= 4


def test_without_arcs_it_never_pays() -> None:
    problem = two_servers(0).untiled()
    assert horizontal_break_even(lambda _: problem).bandwidth_mbit_s is None
    answer = solve_horizontal(problem, must_tile=True)
    assert answer.status == "infeasible"
    assert answer.conflicts == ("No arc can be used at all.",)


def test_nonsense_is_refused_with_a_sentence() -> None:
    problem = two_servers(0)
    with pytest.raises(UsageError, match="no host named 'S0'"):
        with_bandwidth(problem, ["S0", "s1"], 1.0)
    with pytest.raises(UsageError, match="No link joins"):
        with_bandwidth(problem, ["s1", "device"], 1.0)
    with pytest.raises(UsageError, match="accuracy"):
        horizontal_break_even(lambda _: problem, accuracy=0.0)
