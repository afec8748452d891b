"""What commands print for people. Names are never read as console markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from partc.bundle.manifest import Manifest
from partc.report import facts
from partc.report.facts import Facts, facts_of
from partc.report.names import shortened, visible
from partc.report.tile_rows import tiling_sentence
from partc.report.units import bandwidth, count, duration, size

_NAME_LIMIT = 48
_PROFILE_NAME_LIMIT = 18


def strategy_table(manifest: Manifest) -> Table:
    """Each strategy with its predicted latency, where the time goes, and the bytes it sends."""
    found = facts_of(manifest)
    table = plain_table("strategy", right=("latency", *found.hosts, "transfer", "sent"))
    for strategy in manifest.strategies:
        is_chosen = strategy is found.chosen
        table.add_row(
            Text(("→ " if is_chosen else "  ") + shortened(strategy.name, _NAME_LIMIT)),
            duration(strategy.predicted_s),
            *(duration(strategy.compute_s.get(host, 0.0)) for host in found.hosts),
            duration(strategy.transfer_s),
            size(strategy.bytes_sent),
            style="bold" if is_chosen else None,
        )
    return table


def segment_table(manifest: Manifest) -> Table:
    """Each segment with its host, predicted time and memory."""
    columns = ("ops", "predicted", "weights", "live tensors")
    table = plain_table("segment", "host", right=columns)
    for segment in manifest.plan.segments:
        table.add_row(
            segment.id,
            Text(visible(segment.host)),
            f"{len(segment.ops):,}",
            duration(segment.predicted_s),
            *(
                "" if needed is None else size(needed)
                for needed in (segment.weights_bytes, segment.peak_activation_bytes)
            ),
        )
    return table


def transfer_table(manifest: Manifest) -> Table:
    """Each tensor that crosses a link, numbered as in the HTML report."""
    table = plain_table("cut", "tensor", "from", "to", right=("size", "predicted"))
    table.add_column("codec")
    found = facts_of(manifest)
    for cut in found.cuts:
        moved = cut.transfer
        table.add_row(
            str(cut.number),
            Text(shortened(moved.tensor, _NAME_LIMIT)),
            Text(visible(moved.sender)),
            Text(visible(moved.receiver)),
            size(moved.bytes),
            duration(moved.predicted_s),
            facts.codec_text(found, moved),
        )
    return table


def print_compilation(console: Console, manifest: Manifest) -> None:
    """The outcome of a compilation: strategies, verdict, proof, check, notices."""
    found = facts_of(manifest)
    console.print(strategy_table(manifest))
    _print_outcome(console, found)


def print_inspection(console: Console, manifest: Manifest) -> None:
    """What a bundle holds."""
    found = facts_of(manifest)
    blocks = count(len(manifest.blocks), "block")
    name = shortened(manifest.model.name, _NAME_LIMIT)
    where = facts.joined(found.used_hosts)
    made = visible(manifest.created_at)
    say(console, f"{name}: {blocks} on {where}; compiled {made} by partc {manifest.partc_version}")
    console.print(strategy_table(manifest))
    console.print(segment_table(manifest))
    if found.cuts:
        console.print(transfer_table(manifest))
    _print_outcome(console, found)
    known_by = "; ".join(f"{kind} ({facts.PROVENANCE_MEANING[kind]})" for kind in found.provenances)
    if known_by:
        say(console, f"Costs: {known_by}.")


def print_profile(console: Console, data: Mapping[str, Any]) -> None:
    """What ``partc profile`` measured, as its JSON has it: the costliest blocks first."""
    blocks = sorted(data["blocks"], key=lambda block: -block["median_s"])
    total_s = sum(block["median_s"] for block in blocks) or 1.0
    kinds = list(dict.fromkeys(str(block["provenance"]) for block in blocks))
    table = plain_table("block", "types", right=("median", "spread", "95 %", "runs", "share"))
    if len(kinds) > 1:
        table.add_column("known by")
    for block in blocks:
        known_by = str(block["provenance"])
        row: list[Text | str] = [
            Text(shortened(block["name"], _PROFILE_NAME_LIMIT)),
            Text(shortened("+".join(block["types"]), _PROFILE_NAME_LIMIT)),
            duration(block["median_s"]),
            f"± {duration(block['spread_s'])}" if block["samples"] > 1 else "",
            f"± {duration(block['interval_s'])}" if block["interval_s"] else "",
            str(block["samples"]),
            f"{100 * block['median_s'] / total_s:.1f} %",
        ]
        if len(kinds) > 1:
            row.append(Text(known_by, style="yellow" if known_by == "estimated" else ""))
        table.add_row(*row)
    console.print(table)
    for each in data["unattributed"]:
        name = shortened(each["name"], _NAME_LIMIT)
        say(console, f"  {duration(each['seconds'])} of no op: {name}", style="yellow")
    how = count(data["threads"], "thread")
    if data["precision"]:
        how += f", in {visible(data['precision'])}"
    fixed_s = data["segment_fixed_s"]
    fixed = "" if fixed_s is None else f", one more segment {duration(fixed_s)}"
    say(
        console,
        f"{shortened(data['model'], _NAME_LIMIT)} on {visible(data['target'])}, {how}: "
        f"whole {duration(data['whole_s'])}, blocks together {duration(total_s)}{fixed}; "
        f"{' and '.join(kinds)}.",
        style="yellow" if "estimated" in kinds else "",
    )
    if not data["settled"]:
        say(
            console,
            "Runs or time were used up before the medians had settled; "
            "give more with --repeats and --budget.",
            style="yellow",
        )
    for source in dict.fromkeys(block["source"] for block in blocks if block["source"]):
        say(console, f"Source: {shortened(source, 200)}.")
    _print_notices(console, data["notices"])


def print_timing(console: Console, rows: Sequence[tuple[str, float]]) -> None:
    """The time of each pass."""
    total_s = sum(seconds for _, seconds in rows)
    table = plain_table("pass", right=("time", "share"))
    for name, seconds in rows:
        share = f"{100 * seconds / total_s:.1f} %" if total_s else ""
        table.add_row(Text(visible(name)), duration(seconds), share)
    table.add_section()
    table.add_row("all passes", duration(total_s), "")
    console.print(table)


def _print_outcome(console: Console, found: Facts) -> None:
    say(console, facts.verdict_sentence(found), style="bold")
    said = facts.verdict_sentence(found)
    verdict = found.manifest.verdict
    if (more := facts.break_even_sentence(found)) is not None and verdict is not None:
        at = verdict.break_even_mbit_s
        if at is None or bandwidth(at) not in said:
            say(console, more)
    if (shared := tiling_sentence(found)) is not None:
        say(console, shared)
    say(console, facts.proof_sentence(found))
    if (beside := facts.simulation_sentence(found)) is not None:
        say(console, beside)
    if (learnt := facts.refinement_sentence(found)) is not None:
        say(console, learnt)
    say(console, facts.verification_sentence(found))
    if (measured := facts.precision_sentence(found)) is not None:
        say(console, measured)
    if (guessed := facts.estimates_sentence(found)) is not None:
        say(console, guessed, style="yellow")
    _print_notices(console, found.manifest.notices)


def _print_notices(console: Console, notices: Sequence[str]) -> None:
    for notice in notices:
        say(console, f"Note: {notice}", style="yellow")


def say(console: Console, sentence: str, style: str = "") -> None:
    """One sentence."""
    console.print(Text(visible(sentence), style=style))


def plain_table(*left: str, right: Sequence[str]) -> Table:
    """A table without frames; columns of text first, columns of numbers ``right`` of them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(Text(visible(name)), overflow="fold")
    for name in right:
        table.add_column(Text(visible(name)), justify="right", no_wrap=True)
    return table
