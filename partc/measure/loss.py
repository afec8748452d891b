"""How much of an answer was lost: one number for all outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from partc.ir.program import Array


def output_loss(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest loss of any output.

    For floats the norm of the difference over the norm of the reference; for integers, booleans
    and text the share of elements that differ. A value that is no longer finite is a loss of 1.
    """
    return max((_loss(actual[name], expected[name]) for name in expected), default=0.0)


def _loss(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape:
        return 1.0
    if not expected.size:
        return 0.0
    if expected.dtype.kind not in "fc" and expected.dtype.name != "bfloat16":
        return float(np.mean(actual != expected))
    one, other = actual.astype(np.complex128), expected.astype(np.complex128)
    finite = np.isfinite(other)
    if not np.isfinite(one[finite]).all():
        return 1.0
    reference = float(np.linalg.norm(other[finite]))
    difference = float(np.linalg.norm(one[finite] - other[finite]))
    if reference == 0:
        return 0.0 if difference == 0 else 1.0
    return difference / reference
