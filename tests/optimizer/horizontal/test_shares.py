"""Shares of rows: the best split against every split, and candidates that make sense."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.optimizer.horizontal import best_rows, candidate_shares, water_filling

SECONDS = st.floats(1e-6, 10, allow_nan=False)
HOSTS = st.lists(st.tuples(st.floats(0, 20), SECONDS), min_size=2, max_size=4)


def slowest_s(fixed_s: list[float], per_row: list[float], split: tuple[float, ...]) -> float:
    return max(f + s * rows for f, s, rows in zip(fixed_s, per_row, split, strict=True))


@given(HOSTS, st.integers(4, 12), st.integers(0, 1))
def test_whole_rows_are_split_as_well_as_by_trying_all(
    hosts: list[tuple[float, float]], rows: int, least: int
) -> None:
    fixed_s = [host[0] for host in hosts]
    per_row = [host[1] for host in hosts]
    split = best_rows(fixed_s, per_row, rows, least=least)
    assert sum(split) == rows
    assert min(split) >= least
    best_s = min(
        slowest_s(fixed_s, per_row, tried)
        for tried in itertools.product(range(least, rows + 1), repeat=len(hosts))
        if sum(tried) == rows
    )
    assert slowest_s(fixed_s, per_row, split) == pytest.approx(best_s, rel=1e-9)


@given(HOSTS, st.floats(0.1, 1e4))
def test_water_ends_everywhere_at_the_same_time(
    hosts: list[tuple[float, float]], rows: float
) -> None:
    fixed_s = [host[0] for host in hosts]
    per_row = [host[1] for host in hosts]
    split = water_filling(fixed_s, per_row, rows)
    assert sum(split) == pytest.approx(rows, rel=1e-6)
    ends = [f + s * part for f, s, part in zip(fixed_s, per_row, split, strict=True)]
    level_s = max(end for end, part in zip(ends, split, strict=True) if part > 0)
    for fixed, end, part in zip(fixed_s, ends, split, strict=True):
        if part > rows * 1e-9:
            assert end == pytest.approx(level_s, rel=1e-6)
        else:
            assert fixed >= level_s * (1 - 1e-6)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=4), st.integers(4, 500))
def test_candidates_are_shares(speeds: list[float], rows: int) -> None:
    candidates = candidate_shares(speeds, rows)
    assert 1 <= len(candidates) <= 5
    assert len(set(candidates)) == len(candidates)
    for shares in candidates:
        assert len(shares) == len(speeds)
        assert math.fsum(shares) == pytest.approx(1.0, abs=1e-9)
        for share in shares:
            assert share * rows == pytest.approx(round(share * rows), abs=1e-6)
            assert share > 0


def test_a_server_twice_as_fast_gets_twice_the_rows() -> None:
    assert candidate_shares([2.0, 1.0], 300)[0] == pytest.approx((2 / 3, 1 / 3))
    assert (0.5, 0.5) in candidate_shares([2.0, 1.0], 300)
    # What the slower one computes twice is time that the faster one takes over.
    slower_halo = candidate_shares([2.0, 1.0], 300, fixed_s=[0.0, 30.0])[0]
    assert slower_halo[1] == pytest.approx((300 / 3 - 20) / 300)


def test_nonsense_is_refused_with_a_sentence() -> None:
    with pytest.raises(UsageError, match="3 rows cannot be split over 4 hosts"):
        candidate_shares([1.0] * 4, 3)
    with pytest.raises(UsageError, match="speed must be above 0"):
        candidate_shares([1.0, 0.0], 3)
    with pytest.raises(UsageError, match="There must be rows"):
        best_rows([0.0], [1.0], 0)
    with pytest.raises(UsageError, match="there are 1 and 2"):
        water_filling([0.0], [1.0, 1.0], 3)
