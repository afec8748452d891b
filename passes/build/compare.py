"""When two arrays count as equal, by element type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partc.ir.program import Array, Difference

# Relative to float32's tolerance: how many fewer digits a type carries. Doubles are held to that of
# float32, since they are often float32 values that a Cast has widened.
_COARSER = {"float16": 2e2, "bfloat16": 2e3}
_FLOAT8_FACTOR = 2e4


@dataclass(frozen=True)
class Comparison:
    """The difference, and what is wrong with it; ``complaint`` is empty when nothing is."""

    difference: Difference
    complaint: str


def compare(tensor: str, actual: Array, expected: Array, tolerance: float) -> Comparison:
    """Compare one tensor with its reference.

    Floats may differ by ``tolerance`` (for float32; scaled for others) times the largest
    magnitude of the reference. Integers, booleans and strings must be the same, except 8-bit
    integers, which quantised kernels may round to the neighbour. Infinities and NaN must be in
    the same places.
    """
    if actual.dtype != expected.dtype:
        return _refused(tensor, f"its type is {actual.dtype} instead of {expected.dtype}")
    if actual.shape != expected.shape:
        return _refused(tensor, f"its shape is {actual.shape} instead of {expected.shape}")
    if actual.size == 0:
        return Comparison(Difference(tensor, 0.0, 0.0), "")
    name = expected.dtype.name
    if expected.dtype.kind in "OUS":
        same = bool(np.array_equal(actual, expected))
        return _refused(tensor, "its text differs") if not same else _equal(tensor)
    if expected.dtype.kind in "biu":
        return _compare_integers(tensor, actual, expected)
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    one, other = actual.astype(wide), expected.astype(wide)
    finite = np.isfinite(other)
    if not np.array_equal(np.isfinite(one), finite) or not np.array_equal(
        one[~finite], other[~finite], equal_nan=True
    ):
        return _refused(tensor, "infinities or NaN are in other places")
    if not finite.any():
        return _equal(tensor)
    error = np.abs(one[finite] - other[finite])
    max_abs = float(error.max())
    magnitude = float(np.abs(other[finite]).max())
    max_rel = max_abs / magnitude if magnitude > 0 else max_abs
    factor = _FLOAT8_FACTOR if name.startswith("float8") else _COARSER.get(name, 1.0)
    complaint = ""
    if max_rel > tolerance * factor:
        complaint = (
            f"largest error {max_abs:.3g} ({max_rel:.3g} of its magnitude, "
            f"allowed {tolerance * factor:.3g})"
        )
    return Comparison(Difference(tensor, max_abs, max_rel), complaint)


def _compare_integers(tensor: str, actual: Array, expected: Array) -> Comparison:
    if np.array_equal(actual, expected):
        return _equal(tensor)
    wide = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    largest = float(wide.max())
    magnitude = max(float(np.abs(expected.astype(np.float64)).max()), 1.0)
    rounded = expected.dtype.itemsize == 1 and expected.dtype.kind in "iu" and largest <= 1
    complaint = "" if rounded else f"{int((wide > 0).sum())} of {wide.size} integers differ"
    return Comparison(Difference(tensor, largest, largest / magnitude), complaint)


def _equal(tensor: str) -> Comparison:
    return Comparison(Difference(tensor, 0.0, 0.0), "")


def _refused(tensor: str, complaint: str) -> Comparison:
    return Comparison(Difference(tensor, float("inf"), float("inf")), complaint)
