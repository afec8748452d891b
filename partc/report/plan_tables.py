"""Tables of the plans that a bundle carries or was weighed against, for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partc.bundle.manifest import Manifest, ParetoEntry, PortfolioEntry
from partc.report.facts import facts_of
from partc.report.names import visible
from partc.report.tables import plain_table, say
from partc.report.trade_offs import (
    pareto_sentence,
    portfolio_sentence,
    ruling_plans,
    value_of,
    value_text,
)
from partc.report.units import digits, duration, percent, size


def print_plans(console: Console, manifest: Manifest) -> None:
    """The Pareto front and the portfolio, where the bundle has them."""
    if manifest.pareto is not None:
        console.print(pareto_table(manifest.pareto, list(manifest.hosts)))
        say(console, pareto_sentence(manifest.pareto))
    if manifest.portfolio is not None:
        console.print(portfolio_table(manifest, manifest.portfolio))
        say(console, portfolio_sentence(manifest.portfolio))


def pareto_table(front: ParetoEntry, hosts: list[str]) -> Table:
    """Each plan of the front with its two objectives, its bytes, and where its blocks run."""
    table = plain_table(right=(*front.objectives, "sent", *(f"blocks on {host}" for host in hosts)))
    for point in front.points:
        table.add_row(
            *(value_text(value_of(point, each), each) for each in front.objectives),
            size(point.bytes_sent),
            *(str(point.blocks.get(host, 0)) for host in hosts),
        )
    return table


def portfolio_table(manifest: Manifest, portfolio: PortfolioEntry) -> Table:
    """Each plan with its cost vector and the share of the range that it rules."""
    table = plain_table(
        "plan",
        "without",
        right=("device", "servers", "codecs", "sent", "trips", "rules"),
    )
    rulers = {plan.name: plan for plan in ruling_plans(facts_of(manifest))}
    for each in portfolio.plans:
        table.add_row(
            Text(visible(each.name)),
            Text(visible(", ".join(each.survives))),
            duration(each.cost.device_s),
            duration(each.cost.server_s),
            duration(each.cost.constant_s),
            size(each.cost.sent_bytes),
            digits(each.cost.round_trips, 2),
            percent(rulers[each.name].share),
        )
    return table
