"""The report of a bundle as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from partc.bundle.manifest import Manifest
from partc.report import charts, engine_rows, facts, names, tile_rows, trade_offs, units
from partc.report.facts import OPTIMAL, Facts, facts_of
from partc.report.graph import graph_strips
from partc.report.journey import is_tall, journey
from partc.report.palette import style

_TEMPLATE = "report.html.jinja"


def render_report(manifest: Manifest, *, reads: Mapping[str, Collection[str]] | None = None) -> str:
    """A self-contained HTML page that explains what ``manifest`` decided and why.

    Args:
        reads: block name -> the tensors it reads, from which the placed graph gets its edges.
            Without it the blocks are drawn in the order of execution.
    """
    found = facts_of(manifest, reads)
    return _template().render(
        f=found,
        m=manifest,
        facts=facts,
        trade_offs=trade_offs,
        tile_rows=tile_rows,
        engine_rows=engine_rows,
        engines=engine_rows.engine_rows(manifest),
        refused=engine_rows.refused_rows(manifest),
        tiles=_tiles(found),
        host_slot={host: style(i).variable[-1] for i, host in enumerate(found.hosts)},
        sizes_chart=charts.both_widths(charts.tensor_sizes, found),
        times_chart=charts.both_widths(charts.strategy_times, found),
        bandwidth_chart=_bandwidth_chart(found),
        bandwidth_key=_bandwidth_key(found),
        bandwidth_has_optimum=any(OPTIMAL in p.predicted_s for p in manifest.sweep),
        rows_chart=_rows_chart(found),
        pareto_chart=_pareto_chart(found),
        rule_map=_rule_map(found),
        rulers=trade_offs.ruling_plans(found),
        strips=graph_strips(found),
        journey=journey(found),
        journey_is_tall=is_tall(found),
        side_by_side=any(charts.is_side_by_side(s) for s in manifest.strategies),
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    environment.filters |= {
        "duration": units.duration,
        "size": units.size,
        "energy": units.energy,
        "bandwidth": units.bandwidth,
        "percent": units.percent,
        "digits": units.digits,
        "error": units.error,
        "visible": names.visible,
        "shortened": names.shortened,
        "cost": facts.cost_text,
    }
    environment.globals["count"] = units.count
    return environment.get_template(_TEMPLATE)


def _tiles(found: Facts) -> list[tuple[str, str, str]]:
    """The headline facts: what, the value, a sentence about it."""
    manifest, chosen, proof = found.manifest, found.chosen, found.manifest.certificate
    tiles = []
    if chosen is not None:
        note = facts.speedup_sentence(found) or f"all of it on {facts.joined(found.used_hosts)}"
        tiles.append(("Predicted latency", units.duration(chosen.predicted_s), note))
        sent = f"{units.count(len(found.cuts), 'tensor')} over the link for each request"
        tiles.append(("Sent", units.size(chosen.bytes_sent), sent))
    if (sentence := facts.break_even_sentence(found)) is not None and manifest.verdict is not None:
        at = manifest.verdict.break_even_mbit_s
        tiles.append(("Break-even", units.bandwidth(at) if at is not None else "none", sentence))
    if (tiling := manifest.tiling) is not None:
        shared = units.count(sum(len(group.blocks) for group in tiling.groups), "block")
        about = f"of the work of {shared} on {facts.joined(tile_rows.tile_hosts(found, tiling))}; "
        halos = f"{units.size(tiling.halo_bytes)} of halos" if tiling.halo_bytes else "no halos"
        about += f"{halos} sent"
        tiles.append(("Done twice", units.percent(tiling.done_twice), about))
    is_proven = proof.status == "optimal"
    tiles.append(("Proof", "optimal" if is_proven else proof.status, facts.proof_sentence(found)))
    largest = manifest.verified.max_abs_error
    value = "exact" if largest == 0 else units.error(largest)
    tiles.append(("Verified, largest error", value, facts.verification_sentence(found)))
    return tiles


def _bandwidth_chart(found: Facts) -> Markup | None:
    if len(found.manifest.sweep) < 2:
        return None
    return charts.both_widths(charts.over_bandwidth, found)


def _rows_chart(found: Facts) -> Markup | None:
    if found.manifest.tiling is None:
        return None
    return charts.both_widths(tile_rows.tile_rows, found)


def _pareto_chart(found: Facts) -> Markup | None:
    front = found.manifest.pareto
    if front is None or len(front.points) < 2:
        return None
    return charts.both_widths(trade_offs.pareto_chart, found)


def _rule_map(found: Facts) -> Markup | None:
    portfolio = found.manifest.portfolio
    if portfolio is None or not portfolio.map:
        return None
    return charts.both_widths(trade_offs.rule_map, found)


def _bandwidth_key(found: Facts) -> list[tuple[str, str, str]]:
    """Strategy, CSS property of its colour, dash pattern: as `charts.over_bandwidth` draws it."""
    return [
        (look.name, look.variable, " ".join(map(str, look.dashes)))
        for look in charts.sweep_lines(found)
        if look.name != OPTIMAL
    ]
