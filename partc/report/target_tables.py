"""What ``partc targets`` prints for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partc.report.names import visible
from partc.report.tables import plain_table
from partc.report.units import digits, size

Row = Mapping[str, Any]

_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_MIB = 2.0**20


def print_targets(console: Console, rows: Sequence[Row]) -> None:
    """One line for each target, then why costs of some are not measured here."""
    table = plain_table("target", "costs", right=("peak", "memory", "power"))
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        hardware = row["hardware"]
        table.add_row(
            visible(row["name"]),
            Text(row["costs"], style="green" if row["costs"] == "measured" else ""),
            _peak(hardware["peak_flop_s"]),
            _of(hardware["memory_mib"], lambda mib: size(mib * _MIB)),
            _of(hardware["power_active_w"], lambda watts: f"{digits(watts)} W"),
        )
    console.print(table)
    for row in rows:
        console.print(_sentence(row), markup=False, highlight=False, soft_wrap=True)


def print_target(console: Console, row: Row) -> None:
    """Everything that is known of one target."""
    hardware = row["hardware"]
    console.print(_sentence(row), markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    options = ", ".join(f"{key}={value}" for key, value in row["provider_options"].items())
    facts = {
        "backend": row["backend"],
        "optimization": row["optimization"],
        "provider": row["provider"],
        "provider options": options,
        "version": row["version"],
        "fingerprint": row["fingerprint"],
        "costs": row["costs"],
        "product": _product(hardware["vendor"] or "", hardware["product"] or ""),
        "processor": hardware["processor"] or "",
        "architecture": hardware["architecture"] or "",
        "cores": _of(hardware["cores"], str),
        "memory": " ".join(
            filter(
                None,
                (
                    _of(hardware["memory_mib"], lambda mib: size(mib * _MIB)),
                    hardware["memory_type"],
                ),
            )
        ),
        "memory bandwidth": _of(hardware["memory_bandwidth_bytes_per_s"], _bytes_per_s),
        "weights that overflow": _of(hardware["overflow_bandwidth_bytes_per_s"], _bytes_per_s),
        "precisions": ", ".join(hardware["precisions"] or hardware["peak_flop_s"]),
        "power": ", ".join(
            f"{state} {digits(hardware[f'power_{key}_w'])} W"
            for state, key in (
                ("active", "active"),
                ("idle", "idle"),
                ("sending", "tx"),
                ("receiving", "rx"),
            )
            if hardware[f"power_{key}_w"] is not None
        ),
        "price": _of(hardware["price_usd"], lambda price: f"{digits(price)} USD"),
        "ops": ", ".join(hardware["ops"]),
        "recognised by": ", ".join(repr(text) for text in hardware["recognised_by"]),
    }
    for precision, rate in hardware["peak_flop_s"].items():
        facts[f"peak {precision}"] = f"{_rate(rate)}FLOP/s"
    for key, value in facts.items():
        if value:
            table.add_row(f"  {key}", Text(visible(value)))
    console.print(table)


def _sentence(row: Row) -> Text:
    if row["costs"] == "measured":
        state = f"works here ({row['version']})"
    else:
        why = [row["not_this_machine"], row["reason"]]
        is_installed = bool(row["version"] or row["fingerprint"])
        state = "; ".join([each for each in why if each][: 1 if is_installed else 2])
    said = f"{row['description']}: " if row["description"] else ""
    return Text.assemble((visible(row["name"]), "bold"), "  ", visible(f"{said}{state}"))


def _product(vendor: str, product: str) -> str:
    return product if product.startswith(vendor) else f"{vendor} {product}"


def _peak(rates: Mapping[str, float]) -> str:
    """The rate of the widest of the common precisions."""
    for precision in ("fp32", "fp16", "int8"):
        if precision in rates:
            return f"{_rate(rates[precision])}FLOP/s {precision}"
    return ""


def _rate(rate: float) -> str:
    factor, unit = next((each for each in _RATES if rate >= each[0]), (1.0, ""))
    return f"{digits(rate / factor)} {unit}"


def _bytes_per_s(rate: float) -> str:
    return f"{_rate(rate)}B/s"


def _of(value: Any, shown: Callable[[Any], str]) -> str:
    return "" if value is None else shown(value)
