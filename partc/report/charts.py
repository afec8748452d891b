"""The three charts: tensor sizes along the model, time of each strategy, time over bandwidth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from partc.bundle.manifest import StrategyEntry
from partc.report.axes import decade_ticks, grid, round_steps, set_ticks, size_ticks
from partc.report.canvas import figure, plain_axes, to_svg
from partc.report.facts import OPTIMAL, Facts
from partc.report.names import chart_label
from partc.report.palette import placeholder, style
from partc.report.units import bandwidth, duration, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 1000, 348
_NAME_LIMIT = 26
_LONGEST_BAR = 8
_BAR_HEIGHT = 0.36
_SIDE_BY_SIDE = 1.02


def both_widths(draw: Callable[[Facts, int, str], Markup], facts: Facts) -> Markup:
    """A chart drawn for a desktop and again for a phone; the page shows the one that fits."""
    return Markup("").join(
        draw(facts, width, css_class) for width, css_class in ((WIDE, "wide"), (NARROW, "narrow"))
    )


def tensor_sizes(facts: Facts, width: int, css_class: str) -> Markup:
    """Bytes of every intermediate tensor, the input's size, and the cuts."""
    import numpy as np

    blocks = facts.manifest.blocks
    with figure(width, 300 if width == WIDE else 290, "sizes") as drawn:
        axes = plain_axes(drawn, 62, 14, 40, 22)
        axes.set_yscale("log")
        largest = facts.input_bytes or 1
        smallest = largest
        for index, host in enumerate(facts.hosts):
            points = [
                (number, max(size_bytes, 1))
                for number, block in enumerate(blocks, start=1)
                if block.host == host
                for size_bytes in block.outputs.values()
            ]
            if not points:
                continue
            look = style(index)
            x, y = np.array(points).T
            largest, smallest = max(largest, int(y.max())), min(smallest, int(y.min()))
            axes.plot(
                x,
                y,
                look.marker,
                color=placeholder(look.variable),
                markersize=4.5 if len(blocks) < 120 else 3,
                markeredgewidth=0,
                alpha=0.8,
            )
        low, high = smallest / 3, largest * 3
        axes.set_ylim(low, high)
        margin = max(1.0, len(blocks) * 0.02)
        axes.set_xlim(1 - margin, max(len(blocks), 2) + margin)
        set_ticks(axes.yaxis, *size_ticks(low, high))
        axes.set_xlabel("block, in the order of execution")
        grid(axes, "y")
        if facts.input_bytes:
            axes.axhline(facts.input_bytes, color=placeholder("--ink"), linewidth=1, dashes=(5, 3))
            axes.annotate(
                f"the input: {size(facts.input_bytes)}",
                (1, facts.input_bytes),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="right",
            )
        _mark_cuts(axes, facts, width)
        return to_svg(drawn, title=_sizes_title(facts), css_class=css_class)


def _mark_cuts(axes: Axes, facts: Facts, width: int) -> None:
    labelled: list[tuple[float, float]] = []
    blocks = facts.manifest.blocks
    per_block = (width - 90) / max(len(blocks), 1)
    for cut in facts.cuts:
        if cut.producer is None:
            continue
        at = cut.producer + 1
        size_bytes = max(blocks[cut.producer].outputs[cut.transfer.tensor], 1)
        axes.plot(
            [at],
            [size_bytes],
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=placeholder("--cut"),
            markeredgewidth=2,
        )
        here = (at * per_block, 24 * math.log10(size_bytes))
        if any(abs(here[0] - x) < 56 and abs(here[1] - y) < 12 for x, y in labelled):
            continue
        labelled.append(here)
        is_late = at > len(blocks) * 0.85
        axes.annotate(
            f"cut {cut.number}",
            (at, size_bytes),
            xytext=(-9 if is_late else 9, -3.5 if is_late else 5),
            textcoords="offset points",
            ha="right" if is_late else "left",
            color=placeholder("--cut"),
            weight="bold",
        )


def _sizes_title(facts: Facts) -> str:
    count = sum(len(block.outputs) for block in facts.manifest.blocks)
    against = f" against {size(facts.input_bytes)} of input" if facts.input_bytes else ""
    return f"Size of each of {count} intermediate tensors{against}; {len(facts.cuts)} are cut"


def strategy_times(facts: Facts, width: int, css_class: str) -> Markup:
    """Predicted latency of each strategy as one bar, stacked by host and transfer."""
    strategies = facts.manifest.strategies
    row = 46
    with figure(width, row * max(len(strategies), 1) + 34, "strategies") as drawn:
        axes = plain_axes(drawn, 6, 24, 28, 2)
        longest = _bar_limit(facts)
        axes.set_xlim(0, longest)
        axes.set_ylim(max(len(strategies), 1) - 0.5, -0.5)
        axes.set_yticks([])
        steps = round_steps(longest, 6 if width == WIDE else 4)
        set_ticks(axes.xaxis, steps, [duration(s) if s else "0" for s in steps])
        grid(axes, "x")
        for at, strategy in enumerate(strategies):
            is_chosen = strategy is facts.chosen
            weight = "bold" if is_chosen else "normal"
            label = chart_label(strategy.name, _NAME_LIMIT)
            beyond = ", beyond the chart" if strategy.predicted_s > longest else ""
            axes.annotate(
                f"{label}: {duration(strategy.predicted_s)}"
                + (" (chosen)" if is_chosen else beyond),
                (0, at),
                xytext=(1, 9),
                textcoords="offset points",
                weight=weight,
            )
            for bar in _bars(facts, strategy):
                axes.barh(
                    at + bar.centre,
                    bar.seconds,
                    left=bar.start_s,
                    height=bar.height,
                    facecolor="none" if bar.hatch else placeholder(bar.variable),
                    edgecolor=placeholder(bar.variable if bar.hatch else "--surface"),
                    hatch=bar.hatch,
                    linewidth=1,
                )
        return to_svg(drawn, title=_strategies_title(facts), css_class=css_class)


@dataclass(frozen=True)
class _Bar:
    """A part of a strategy's time; ``centre`` and ``height`` in rows of the chart."""

    start_s: float
    seconds: float
    variable: str
    hatch: str
    centre: float
    height: float


def is_side_by_side(strategy: StrategyEntry) -> bool:
    """Whether hosts work at the same time, so that their times add up to more than it takes."""
    total_s = sum(strategy.compute_s.values()) + strategy.transfer_s
    return total_s > strategy.predicted_s * _SIDE_BY_SIDE


def _bars(facts: Facts, strategy: StrategyEntry) -> list[_Bar]:
    """One after the other; those of hosts that work side by side below each other."""
    parts = [
        (seconds, style(i).variable, "", host)
        for i, host in enumerate(facts.hosts)
        if (seconds := strategy.compute_s.get(host, 0.0)) > 0
    ]
    first_is_root = bool(parts) and parts[0][3] == facts.hosts[0]
    below = len(parts) + 1 if is_side_by_side(strategy) else 1
    if strategy.transfer_s > 0:
        place = len(parts) if below > 1 else int(first_is_root)
        parts.insert(place, (strategy.transfer_s, "--wire", "/////", "transfer"))
    height = _BAR_HEIGHT / below
    bars: list[_Bar] = []
    start_s = 0.0
    for place, (seconds, variable, hatch, _) in enumerate(parts):
        line = place % below
        centre = 0.2 - _BAR_HEIGHT / 2 + (line + 0.5) * height
        bars.append(_Bar(start_s, seconds, variable, hatch, centre, height))
        if below == 1:
            start_s += seconds
    return bars


def _bar_limit(facts: Facts) -> float:
    """The end of the axis: one hopeless strategy must not shrink all other bars to nothing."""
    longest = max((s.predicted_s for s in facts.manifest.strategies), default=0.0)
    chosen_s = facts.chosen.predicted_s if facts.chosen is not None else 0.0
    return min(longest, chosen_s * _LONGEST_BAR) or longest or 1.0


def _strategies_title(facts: Facts) -> str:
    each = "; ".join(
        f"{s.name} {duration(s.predicted_s)}, of it {duration(s.transfer_s)} transfer"
        for s in facts.manifest.strategies
    )
    return f"Predicted latency of each strategy: {each}"


def over_bandwidth(facts: Facts, width: int, css_class: str) -> Markup:
    """Latency of each strategy over the bandwidth, with break-even and the declared link."""
    sweep = sorted(facts.manifest.sweep, key=lambda point: point.bandwidth_mbit_s)
    with figure(width, 330, "bandwidth") as drawn:
        axes = plain_axes(drawn, 62, 34, 40, 36)
        axes.set_xscale("log")
        axes.set_yscale("log")
        low = min((t for p in sweep for t in p.predicted_s.values() if t > 0), default=1e-3)
        # Far above the best, curves of bad strategies only squeeze the part that matters.
        best_at_worst = max((min(p.predicted_s.values()) for p in sweep), default=1.0)
        high = max(best_at_worst * 12, low * 20)
        axes.set_ylim(low / 1.6, high)
        left, right = sweep[0].bandwidth_mbit_s, sweep[-1].bandwidth_mbit_s
        axes.set_xlim(left, right if right > left else left * 10)
        set_ticks(axes.xaxis, *decade_ticks(left, right, bandwidth, 8 if width == WIDE else 4))
        set_ticks(axes.yaxis, *decade_ticks(low / 1.6, high, duration, 8))
        axes.set_xlabel("bandwidth of the link")
        grid(axes, "y")
        for line in sweep_lines(facts):
            points = [(p.bandwidth_mbit_s, p.predicted_s.get(line.name)) for p in sweep]
            is_best = line.name == OPTIMAL
            axes.plot(
                [x for x, y in points if y is not None],
                [y for _, y in points if y is not None],
                color=placeholder(line.variable),
                linewidth=7 if is_best else 1.8,
                alpha=0.3 if is_best else 1,
                solid_capstyle="round",
                linestyle=(0, line.dashes) if line.dashes else "-",
            )
        _mark_bandwidths(axes, facts)
        return to_svg(drawn, title=_bandwidth_title(facts), css_class=css_class)


@dataclass(frozen=True)
class SweepLine:
    """How one strategy is drawn over the bandwidth."""

    name: str
    variable: str
    dashes: tuple[float, ...]


def sweep_lines(facts: Facts) -> list[SweepLine]:
    """Every strategy of the sweep; the optimum first, since the others are drawn over it."""
    names = dict.fromkeys(name for p in facts.manifest.sweep for name in p.predicted_s)
    others = [name for name in names if name != OPTIMAL]
    lines = [SweepLine(n, style(i).variable, style(i).dashes) for i, n in enumerate(others)]
    return [SweepLine(OPTIMAL, "--cut", ()), *lines] if OPTIMAL in names else lines


def _mark_bandwidths(axes: Axes, facts: Facts) -> None:
    left, right = axes.get_xlim()
    verdict = facts.manifest.verdict
    if verdict is not None and verdict.split_range_mbit_s is not None:
        low, high = verdict.split_range_mbit_s
        axes.axvspan(
            max(low, left),
            min(high if high is not None else right, right),
            facecolor=placeholder("--cut"),
            alpha=0.08,
            linewidth=0,
        )
    marks = [(at, "link", "--ink", 6) for at in facts.declared_mbit_s]
    if verdict is not None and verdict.break_even_mbit_s is not None:
        marks.append((verdict.break_even_mbit_s, "break-even", "--cut", 20))
    for at, label, variable, lift in marks:
        if not left <= at <= right:
            continue
        fraction = math.log(at / left) / math.log(right / left)
        axes.axvline(at, color=placeholder(variable), linewidth=1.2, dashes=(4, 2))
        axes.annotate(
            f"{label} {bandwidth(at)}",
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, lift),
            textcoords="offset points",
            ha="left" if fraction < 0.2 else "right" if fraction > 0.8 else "center",
            color=placeholder(variable),
        )


def _bandwidth_title(facts: Facts) -> str:
    sweep = facts.manifest.sweep
    span = f"{bandwidth(sweep[0].bandwidth_mbit_s)} to {bandwidth(sweep[-1].bandwidth_mbit_s)}"
    verdict = facts.manifest.verdict
    if verdict is None or verdict.break_even_mbit_s is None:
        return f"Predicted latency of each strategy from {span}"
    at = bandwidth(verdict.break_even_mbit_s)
    return f"Predicted latency of each strategy from {span}; break-even at {at}"
