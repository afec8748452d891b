"""Ticks and grid lines that the charts share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from partc.report.palette import placeholder
from partc.report.units import size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


def grid(axes: Axes, axis: str) -> None:
    """Grid lines across one axis, ``x`` or ``y``, behind everything else."""
    line = placeholder("--line")
    if axis == "x":
        axes.xaxis.grid(True, color=line, linewidth=0.8)
    else:
        axes.yaxis.grid(True, color=line, linewidth=0.8)
    axes.set_axisbelow(True)


def set_ticks(axis: Axis, positions: Sequence[float], labels: Sequence[str]) -> None:
    """Ticks at these positions only."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(positions))
    axis.set_major_formatter(FixedFormatter(labels))
    axis.set_minor_locator(NullLocator())


def size_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Powers of two between two sizes, with their labels."""
    exponents = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    step = 2 if len(exponents) <= 14 else 3 if len(exponents) <= 20 else 5
    positions = [2.0**e for e in exponents if e % step == 0]
    return positions, [size(p).replace(".00", "").replace(".0 ", " ") for p in positions]


def decade_ticks(
    low: float, high: float, text: Callable[[float], str], limit: int
) -> tuple[list[float], list[str]]:
    """Round positions on a logarithmic axis, at most ``limit``, with their labels."""
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) * 3 <= limit * 1.5 else (1,)
    fine = [factor * 10.0**e for e in exponents for factor in factors]
    inside = [position for position in fine if low <= position <= high]
    positions = inside[:: math.ceil(len(inside) / limit) or 1]
    return positions, [text(p).replace(".00", "").replace(".0 ", " ") for p in positions]


def round_steps(longest: float, pieces: int) -> list[float]:
    """Multiples of a round number from 0 to ``longest``, in about so many ``pieces``."""
    rough = longest / pieces
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(magnitude * m for m in (1, 2, 5, 10) if magnitude * m >= rough)
    return [step * i for i in range(math.floor(longest / step) + 1)]
