"""When two arrays count as equal."""

from __future__ import annotations

import numpy as np
import pytest

from partc.ir.program import Array
from partc.passes.build.compare import compare

ONE = np.linspace(-1, 1, 50)


def complaint(actual: Array, expected: Array) -> str:
    return compare("t", actual, expected, 1e-4).complaint


@pytest.mark.parametrize(
    ("dtype", "allowed", "refused"),
    [("float32", 5e-5, 5e-4), ("float64", 5e-5, 5e-4), ("float16", 1e-2, 1e-1)],
)
def test_floats_may_differ_a_little(dtype: str, allowed: float, refused: float) -> None:
    expected = ONE.astype(dtype)
    assert complaint((ONE + allowed).astype(dtype), expected) == ""
    assert "largest error" in complaint((ONE + refused).astype(dtype), expected)


def test_what_must_be_the_same() -> None:
    text = np.array(["a", "b"], dtype=object)
    assert complaint(text, text.copy()) == ""
    assert "text differs" in complaint(text, text[::-1].copy())
    numbers = np.arange(5)
    assert "1 of 5 integers differ" in complaint(numbers + (numbers == 2), numbers)
    flags = np.array([True, False])
    assert "integers differ" in complaint(~flags, flags)
    assert "type" in complaint(numbers.astype(np.int32), numbers)
    assert "shape" in complaint(numbers[:4], numbers)


def test_eight_bit_integers_may_round_to_the_neighbour() -> None:
    expected = np.arange(5, dtype=np.int8)
    assert complaint(expected + np.int8(1), expected) == ""
    assert "integers differ" in complaint(expected + np.int8(2), expected)


def test_infinities_and_nan_stand_at_the_same_places() -> None:
    odd = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    assert complaint(odd, odd.copy()) == ""
    assert "other places" in complaint(odd[[0, 2, 1, 3]], odd)
    assert "other places" in complaint(np.ones(4, np.float32), odd)


def test_nothing_equals_nothing() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert complaint(empty, empty.copy()) == ""
