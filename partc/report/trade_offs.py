"""The Pareto front and the portfolio as charts, and in words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from markupsafe import Markup

from partc.bundle.manifest import ParetoEntry, ParetoPointEntry, PlanEntry, PortfolioEntry
from partc.report.axes import decade_ticks, grid, round_steps, set_ticks
from partc.report.canvas import figure, plain_axes, to_svg
from partc.report.facts import Facts, joined
from partc.report.palette import HOST_STYLES, placeholder, style
from partc.report.units import bandwidth, count, digits, duration, energy, percent

WIDE = 1000
OBJECTIVE_LABEL = {
    "latency": "latency of one request",
    "throughput": "time between two requests of a full pipeline",
    "energy": "energy of one request",
}


def value_of(point: ParetoPointEntry, objective: str) -> float:
    """What a plan of a front has in one objective: seconds, or joules."""
    values = {"latency": point.latency_s, "throughput": point.period_s, "energy": point.energy_j}
    return values[objective]


def value_text(value: float, objective: str) -> str:
    """The same for people."""
    return energy(value) if objective == "energy" else duration(value)


def pareto_sentence(front: ParetoEntry) -> str:
    """How much of the front is there, in a sentence."""
    one, other = front.objectives
    if len(front.points) == 1:
        return f"One plan is the best in {one} and in {other} at once."
    kept = "all there are" if front.complete else "a sample of them; plans in between may exist"
    return f"{count(len(front.points), 'trade-off')} between {one} and {other}: {kept}."


def pareto_chart(facts: Facts, width: int, css_class: str) -> Markup:
    """Every plan of the front, the first objective to the right and the second upwards."""
    front = facts.manifest.pareto
    assert front is not None
    one, other = front.objectives
    points = sorted((value_of(p, one), value_of(p, other)) for p in front.points)
    with figure(width, 300, "pareto") as drawn:
        axes = plain_axes(drawn, 70, 24, 40, 14)
        right, top = points[-1][0], max(y for _, y in points)
        axes.set_xlim(0, right * 1.08 or 1.0)
        axes.set_ylim(0, top * 1.12 or 1.0)
        for axis, longest, objective in ((axes.xaxis, right, one), (axes.yaxis, top, other)):
            pieces = 6 if axis is axes.yaxis or width == WIDE else 3
            steps = round_steps(longest * 1.08 or 1.0, pieces)
            set_ticks(axis, steps, [value_text(s, objective) if s else "0" for s in steps])
        axes.set_xlabel(OBJECTIVE_LABEL[one])
        grid(axes, "y")
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=placeholder("--muted"), linewidth=1, drawstyle="steps-post")
        axes.plot(xs, ys, "o", color=placeholder("--cut"), markersize=8, markeredgewidth=0)
        said = "; ".join(f"{value_text(x, one)} and {value_text(y, other)}" for x, y in points)
        return to_svg(drawn, title=f"Trade-offs of {one} and {other}: {said}", css_class=css_class)


@dataclass(frozen=True)
class RulingPlan:
    """A plan of the portfolio and where it is the best.

    Attributes:
        slot: of its colour.
        share: of the drawn range in which it rules.
        what: which host computes and how tensors travel, in words.
    """

    name: str
    slot: int
    share: float
    what: str


def ruling_plans(facts: Facts) -> list[RulingPlan]:
    """Every plan of the portfolio, in its order."""
    portfolio = facts.manifest.portfolio
    if portfolio is None:
        return []
    ruled = [point.plan for point in portfolio.map]
    return [
        RulingPlan(
            name=each.name,
            slot=index % HOST_STYLES,
            share=ruled.count(each.name) / len(ruled) if ruled else 0.0,
            what=_hosts_of(facts, each.plan),
        )
        for index, each in enumerate(portfolio.plans)
    ]


def _hosts_of(facts: Facts, plan: PlanEntry) -> str:
    ops = {host: sum(len(s.ops) for s in plan.segments if s.host == host) for host in facts.hosts}
    where = joined([f"{count(number, 'op')} on {host}" for host, number in ops.items() if number])
    codecs = dict.fromkeys(t.codec for t in plan.transfers if t.codec != "none")
    return f"{where}, {joined(codecs)}" if codecs else where


def portfolio_sentence(portfolio: PortfolioEntry) -> str:
    """What the portfolio promises, in a sentence."""
    plans = count(len(portfolio.plans), "plan")
    if portfolio.certified_fraction >= 1 - 1e-9:
        where = "everywhere in the declared range"
    else:
        where = f"in {percent(portfolio.certified_fraction)} of the declared range"
    return (
        f"The bundle carries {plans} for changing conditions; proven: {where} one of them is "
        f"within {percent(portfolio.tolerance)} of the optimum."
    )


def rule_map(facts: Facts, width: int, css_class: str) -> Markup:
    """Which plan is the best over bandwidth and device slowdown."""
    portfolio = facts.manifest.portfolio
    assert portfolio is not None
    slots = {plan.name: plan.slot for plan in ruling_plans(facts)}
    bandwidths = sorted({point.bandwidth_mbit_s for point in portfolio.map})
    slowdowns = sorted({point.device_slowdown for point in portfolio.map})
    with figure(width, 64 + max(34 * len(slowdowns), 60), "rule") as drawn:
        axes = plain_axes(drawn, 62, 20, 40, 8)
        axes.set_xscale("log")
        edges = _edges(bandwidths)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(-0.5, len(slowdowns) - 0.5)
        for point in portfolio.map:
            column = bandwidths.index(point.bandwidth_mbit_s)
            look = style(slots[point.plan])
            axes.barh(
                slowdowns.index(point.device_slowdown),
                edges[column + 1] - edges[column],
                left=edges[column],
                height=0.94,
                facecolor=placeholder(look.variable),
                linewidth=0,
                alpha=0.85,
            )
        labels = [f"× {digits(slowdown, 2)}" for slowdown in slowdowns]
        set_ticks(axes.yaxis, range(len(slowdowns)), labels)
        set_ticks(
            axes.xaxis, *decade_ticks(edges[0], edges[-1], bandwidth, 8 if width == WIDE else 4)
        )
        axes.set_xlabel("bandwidth of the link")
        rules = "; ".join(f"{p.name} in {percent(p.share)}" for p in ruling_plans(facts))
        return to_svg(drawn, title=f"The best plan over the range: {rules}", css_class=css_class)


def _edges(centres: list[float]) -> list[float]:
    """Where one column ends and the next begins, halfway on a logarithmic scale."""
    if len(centres) == 1:
        return [centres[0] / 2, centres[0] * 2]
    middles = [(a * b) ** 0.5 for a, b in itertools.pairwise(centres)]
    first, last = centres[0] ** 2 / middles[0], centres[-1] ** 2 / middles[-1]
    return [first, *middles, last]
