"""Statistics of samples: on synthetic series, of which the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partc.measure.statistics import (
    is_settled,
    is_warm,
    median_interval,
    summarise,
    trend,
)

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200)


@settings(deadline=None)
@given(TIMES)
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples: list[float]) -> None:
    found = median_interval(samples)
    assert min(samples) <= found.low <= np.median(samples) <= found.high <= max(samples)
    assert found.is_confident == (len(samples) >= 6)


@settings(deadline=None)
@given(TIMES, st.floats(1e-3, 1e3))
def test_the_interval_scales_with_the_samples(samples: list[float], factor: float) -> None:
    one, other = median_interval(samples), median_interval([s * factor for s in samples])
    assert other.low == pytest.approx(one.low * factor)
    assert other.half_width == pytest.approx(one.half_width * factor)


@settings(deadline=None)
@given(TIMES)
def test_order_does_not_count(samples: list[float]) -> None:
    assert median_interval(samples) == median_interval(samples[::-1])


@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (9, 2), (12, 3), (20, 6), (40, 14), (100, 40), (500, 228)]
)
def test_ranks_are_those_of_the_tables(count: int, rank: int) -> None:
    found = median_interval([float(n) for n in range(1, count + 1)])
    assert (found.low, found.high) == (rank, count + 1 - rank)


def test_ranks_of_many_samples_go_on_as_those_of_few() -> None:
    widths = [median_interval(list(map(float, range(n)))).half_width / math.sqrt(n)
              for n in (400, 500, 501, 2000)]  # fmt: skip
    assert max(widths) == pytest.approx(min(widths), rel=0.06)


@pytest.mark.parametrize("draw", ["normal", "skewed", "two humps"])
def test_the_interval_holds_the_true_median_as_often_as_it_says(draw: str) -> None:
    random = np.random.default_rng(7)
    kinds: dict[str, tuple[Callable[[], Any], float]] = {
        "normal": (lambda: random.normal(1.0, 0.1, 25), 1.0),
        "skewed": (lambda: random.lognormal(0.0, 1.0, 25), 1.0),
        "two humps": (
            lambda: np.where(random.random(25) < 0.6, 1.0, 2.0) + random.random(25) * 0.3,
            1.25,  # of six in ten that lie evenly within 1 to 1.3, half of all lie below 1.25
        ),
    }
    series, truth = kinds[draw]
    inside = 0
    for _ in range(600):
        found = median_interval(series().tolist())
        inside += found.low <= truth <= found.high
    assert inside / 600 > 0.93


@settings(deadline=None)
@given(st.integers(0, 100), st.floats(0.001, 10))
def test_equal_samples_are_settled_from_six_on(count: int, value: float) -> None:
    assert is_settled([value] * count) == (count >= 6)


@settings(deadline=None)
@given(TIMES, st.floats(0.0, 0.5))
def test_more_precision_is_harder(samples: list[float], precision: float) -> None:
    if is_settled(samples, precision):
        assert is_settled(samples, precision + 0.1)


def test_noise_without_a_trend_is_no_trend() -> None:
    random = np.random.default_rng(3)
    found = [trend(random.normal(1.0, 0.05, 60).tolist()).is_certain for _ in range(300)]
    assert sum(found) <= 3


@pytest.mark.parametrize("change", [0.1, -0.1, 0.5])
@pytest.mark.parametrize("count", [30, 100, 1000])
def test_a_drift_is_found_and_measured(change: float, count: int) -> None:
    random = np.random.default_rng(4)
    series = np.linspace(1.0, 1.0 + change, count) * random.normal(1.0, 0.01, count)
    found = trend(series.tolist())
    assert found.is_certain
    assert found.change == pytest.approx(change * 2 / 3, rel=0.35)


def test_one_late_outlier_is_no_drift() -> None:
    random = np.random.default_rng(5)
    assert not trend([*random.normal(1.0, 0.01, 40).tolist(), 9.0, 9.0]).is_certain


def test_few_samples_have_no_trend() -> None:
    assert not trend([1.0, 2.0, 3.0]).is_certain
    assert not trend([]).is_certain


@settings(deadline=None)
@given(TIMES)
def test_turning_a_series_round_turns_its_trend_round(samples: list[float]) -> None:
    assert trend(samples).is_certain == trend(samples[::-1]).is_certain


@pytest.mark.parametrize(
    ("samples", "warm"),
    [
        ([], False),
        ([5.0], False),
        ([5.0, 3.0], False),
        ([5.0, 3.0, 2.0], False),
        ([5.0, 3.0, 2.99], True),
        ([5.0, 3.0, 3.5], True),
    ],
)
def test_warm_is_who_gets_no_faster(samples: list[float], warm: bool) -> None:
    assert is_warm(samples) == warm


def test_a_cost_says_how_well_it_is_known() -> None:
    samples = [float(n) for n in range(1, 41)]
    cost = summarise(samples, 2.0, fingerprint="cpu")
    assert (cost.median_s, cost.samples, cost.fingerprint) == (41.0, 40, "cpu")
    assert cost.interval_s == pytest.approx(2.0 * 13 / 2)
    assert not cost.settled
    assert summarise([1.0] * 10).settled
    assert not summarise([1.0] * 10, settled=False).settled
    assert cost.scaled(3.0).interval_s == 3 * cost.interval_s


@settings(deadline=None)
@given(TIMES, st.floats(0, 1))
def test_doubt_widens_and_moves_nothing(samples: list[float], doubt: float) -> None:
    sure, unsure = summarise(samples), summarise(samples, doubt=doubt)
    assert unsure.median_s == sure.median_s
    assert unsure.spread_s == pytest.approx(sure.spread_s + doubt * sure.median_s)
    assert unsure.interval_s == pytest.approx(sure.interval_s + doubt * sure.median_s)
