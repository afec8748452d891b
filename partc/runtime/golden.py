"""Whether what runs a segment gives the answers that the segment gave when it was compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from partc.bundle.reader import Bundle
from partc.errors import BundleError, TargetError
from partc.ir.engine import EngineEntry
from partc.targets.protocol import Runner

# Largest difference from the golden pair, of the largest magnitude; GPU and CPU add up in another
# order, and round to few digits in other places.
_TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1, "int8": 1e-1}


def check_golden(runner: Runner, bundle: Bundle, entry: EngineEntry, what: str) -> None:
    """Run a segment's golden inputs, where the bundle has them, and compare.

    Args:
        what: that runs the segment, for people.

    Raises:
        TargetError: it fails, or gives another answer.
        BundleError: the golden pair is missing or was changed.
    """
    if not entry.golden:
        return
    if len(entry.golden) != 2:
        raise BundleError(f"bundle {bundle.path} has half a golden pair; compile it again")
    feeds, expected = (bundle.arrays(name) for name in entry.golden)
    actual = runner.run(feeds)
    for name, reference in expected.items():
        if name not in actual:
            raise TargetError(f"{what} gives no {name!r}")
        if why := difference(actual[name], reference, entry.precision):
            raise TargetError(f"{what} gives another {name!r} than the model: {why}")


def difference(actual: Any, expected: Any, precision: str) -> str:
    """Why an answer is not the expected one; empty if it is close enough."""
    one, other = np.asarray(actual), np.asarray(expected)
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"it is {one.dtype} {one.shape} and should be {other.dtype} {other.shape}"
    if not other.size:
        return ""
    tolerance = _TOLERANCES[precision]
    if other.dtype.kind not in "fc" and other.dtype.name != "bfloat16":
        share = float(np.mean(one != other))
        return "" if share <= tolerance else f"{share:.1%} of its elements differ"
    one, other = one.astype(np.complex128), other.astype(np.complex128)
    finite = np.isfinite(other)
    if not np.isfinite(one[finite]).all():
        return "it is not finite where it should be"
    if not finite.any():
        return ""
    largest = float(np.abs(one[finite] - other[finite]).max())
    magnitude = float(np.abs(other[finite]).max())
    relative = largest / magnitude if magnitude else largest
    if math.isnan(relative) or relative > tolerance:
        return f"largest error {largest:.3g} ({relative:.3g} of its magnitude)"
    return ""
