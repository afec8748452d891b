"""What ``partc costs`` prints for people, from the plain data that its ``--json`` has too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partc.report.names import shortened, visible
from partc.report.tables import plain_table, say
from partc.report.units import count, duration

_SIGNATURE = 8
_LABEL, _MODEL, _SOURCE = 30, 14, 30


def print_costs(
    console: Console, costs: Sequence[Mapping[str, Any]], total: int, store: str
) -> None:
    """A table for each hardware and its settings, and how many costs there are in all."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cost in costs:
        groups.setdefault((cost["fingerprint"], cost["settings"]), []).append(cost)
    for (fingerprint, settings), members in groups.items():
        title = " · ".join(visible(text) for text in (fingerprint, settings) if text)
        say(console, title, style="bold")
        console.print(_table(members))
    of_all = (
        f"{len(costs)} of {count(total, 'cost')}" if len(costs) < total else count(total, "cost")
    )
    say(console, f"{of_all} in {visible(store)}.")


def _table(costs: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("id", "of", "model", right=("median", "95 %", "runs", "when"))
    has_sources = any(cost["source"] or cost["provenance"] != "measured" for cost in costs)
    if has_sources:
        table.add_column("known by")
    for cost in costs:
        row: list[Text | str] = [
            Text(visible(cost["signature"][:_SIGNATURE]) or "-"),
            Text(shortened(cost["label"] or cost["kind"], _LABEL)),
            Text(shortened(cost["model"], _MODEL)),
            duration(cost["median_s"]),
            interval_text(cost),
            str(cost["samples"]),
            visible(cost["measured_at"][:10]),
        ]
        if has_sources:
            row.append(Text(shortened(known_by(cost), _SOURCE)))
        table.add_row(*row)
    return table


def print_cost(console: Console, cost: Mapping[str, Any]) -> None:
    """Everything about one cost."""
    say(console, shortened(cost["label"] or cost["kind"], 200), style="bold")
    rows = {
        "kind": cost["kind"],
        "signature": cost["signature"],
        "hardware": cost["fingerprint"],
        "settings": cost["settings"],
        "median": duration(cost["median_s"]),
        "95 % interval": interval_text(cost),
        "spread": f"± {duration(cost['spread_s'])}",
        "runs": str(cost["samples"]),
        "settled": "yes" if cost["settled"] else "no: runs or time were used up before",
        "known by": known_by(cost),
        "measured at": cost["measured_at"],
        "first seen in": cost["model"],
        "key": cost["key"],
    }
    for name, text in rows.items():
        if text:
            say(console, f"  {name}: {visible(text)}")


def interval_text(cost: Mapping[str, Any]) -> str:
    """Half of the median's interval, marked where the measurement did not settle."""
    if not cost["interval_s"]:
        return "" if cost["settled"] else "?"
    return f"± {duration(cost['interval_s'])}{'' if cost['settled'] else ' ?'}"


def known_by(cost: Mapping[str, Any]) -> str:
    """Provenance, and the source where there is one."""
    source = visible(cost["source"])
    return f"{cost['provenance']} ({source})" if source else str(cost["provenance"])
