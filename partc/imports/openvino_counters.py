"""OpenVINO's performance counters, in the forms in which people have them.

- ``benchmark_app -report_type detailed_counters`` (or ``average_counters``): a table separated by
  semicolons, one part for each infer request; with ``-json_stats`` the same as JSON, times being
  texts in milliseconds. ``-pcsort`` writes a table separated by commas.
- A dump of ``InferRequest.get_profiling_info()``: a JSON list with an object for each node, or a
  list of such lists, with ``node_name``, ``status``, ``real_time`` and the rest as attributes are
  named. Times are numbers of microseconds, or what Python prints for a timedelta.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from partc.errors import UsageError
from partc.imports.imported import (
    MOST_KERNELS,
    ImportedCosts,
    Kernel,
    checked_count,
    checked_name,
    checked_seconds,
)

_HEADER = "layerName"
_EXECUTED = "EXECUTED"
_TIMEDELTA = re.compile(r"(\d{1,5}):(\d{2}):(\d{2}(?:\.\d{1,6})?)")
_MOST_REQUESTS = 10_000
_LONGEST_LINE = 100_000

Row = tuple[str, str, float]
"""Name, type and seconds of what ran."""


def is_table(text: str) -> bool:
    """Whether a text is a table of counters."""
    return text.lstrip("\ufeff \r\n").startswith(_HEADER)


def is_report(data: object) -> bool:
    """Whether parsed JSON is a report of benchmark_app with counters."""
    return isinstance(data, dict) and ("detailed_performance" in data or "avg_performance" in data)


def is_dump(data: object) -> bool:
    """Whether parsed JSON is a dump of ``get_profiling_info``."""
    if not isinstance(data, list) or not data:
        return False
    first = data[0]
    if isinstance(first, list):
        return is_dump(first) and not isinstance(first[0], list)
    return isinstance(first, dict) and "node_name" in first and "real_time" in first


def parse_table(text: str, origin: str) -> ImportedCosts:
    """The table of benchmark_app.

    Raises:
        UsageError: a line makes no sense.
    """
    requests: list[list[Row]] = []
    columns: dict[str, int] = {}
    time, unit_s = "", 1e-3
    separator = ";" if ";" in text.lstrip("\ufeff \r\n").partition("\n")[0] else ","
    lines = text.splitlines()
    if any(len(line) > _LONGEST_LINE for line in lines):
        raise UsageError(f"{origin} has a line of more than {_LONGEST_LINE:,} characters")
    for number, cells in enumerate(_cells(lines, separator), 1):
        if not any(cells) or cells[0] == "Total" or cells[0].startswith("Total "):
            continue
        if cells[0].lstrip("\ufeff") == _HEADER:
            columns = {cell.strip(): index for index, cell in enumerate(cells)}
            time = next((name for name in columns if name.startswith("realTime")), "")
            if not time or "execStatus" not in columns:
                raise UsageError(f"{origin}: line {number} names no columns execStatus, realTime")
            unit_s = 1e-6 if "(us)" in time or "(mcs)" in time else 1e-3
            requests.append([])
            continue
        where = f"{origin}: line {number}"
        if len(cells) <= max(columns["execStatus"], columns[time]):
            raise UsageError(f"{where} is cut off; write the report again")
        if _has_run(cells[columns["execStatus"]]):
            kind = columns.get("layerType", 0)
            seconds = checked_seconds(cells[columns[time]], unit_s, f"{where}: realTime")
            requests[-1].append((checked_name(cells[0], where), cells[kind], seconds))
        if len(requests[-1]) > MOST_KERNELS:
            checked_count(len(requests[-1]), origin)
    return _costs(requests, origin)


def _cells(lines: list[str], separator: str) -> Iterable[list[str]]:
    """The table with commas quotes; names in the other may hold quotation marks."""
    if separator == ";":
        return (line.split(";") for line in lines)
    return csv.reader(lines)


def parse_report(data: Mapping[str, Any], origin: str) -> ImportedCosts:
    """The JSON of benchmark_app.

    Raises:
        UsageError: a node makes no sense.
    """
    found = data.get("detailed_performance", data.get("avg_performance"))
    parts = found if isinstance(found, list) else [found]
    requests: list[list[Row]] = []
    for part in parts[: _MOST_REQUESTS + 1]:
        nodes = part.get("nodes") if isinstance(part, dict) else None
        if not isinstance(nodes, list):
            raise UsageError(f"{origin} has a report without a list of nodes")
        requests.append(list(_rows(nodes, "name", 1e-3, origin)))
    return _costs(requests, origin)


def parse_dump(data: Sequence[Any], origin: str) -> ImportedCosts:
    """A dump of ``get_profiling_info``.

    Raises:
        UsageError: a node makes no sense.
    """
    lists = data if isinstance(data[0], list) else [data]
    if not all(isinstance(nodes, list) for nodes in lists):
        raise UsageError(f"{origin} is a list of some lists and some nodes")
    return _costs([list(_rows(list(each), "node_name", 1e-6, origin)) for each in lists], origin)


def _rows(nodes: list[Any], name_key: str, unit_s: float, origin: str) -> Iterable[Row]:
    checked_count(len(nodes), origin)
    for index, node in enumerate(nodes):
        where = f"{origin}: node {index}"
        if not isinstance(node, dict):
            raise UsageError(f"{where} is no object")
        if not _has_run(node.get("status", _EXECUTED)):
            continue
        kind = node.get("node_type")
        yield (
            checked_name(node.get(name_key), f"{where}: {name_key}"),
            kind if isinstance(kind, str) else "",
            _seconds(node.get("real_time"), unit_s, f"{where}: real_time"),
        )


def _seconds(value: object, unit_s: float, where: str) -> float:
    match = _TIMEDELTA.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return checked_seconds(value, unit_s, where)
    return int(match[1]) * 3600.0 + int(match[2]) * 60 + float(match[3])


def _has_run(status: object) -> bool:
    return isinstance(status, str) and status.rpartition(".")[2] == _EXECUTED


def _costs(requests: list[list[Row]], origin: str) -> ImportedCosts:
    """One sample for each infer request."""
    if len(requests) > _MOST_REQUESTS:
        raise UsageError(f"{origin} has more than {_MOST_REQUESTS:,} infer requests")
    rows: dict[tuple[str, int], list[float]] = {}
    types: dict[tuple[str, int], str] = {}
    for number, request in enumerate(requests):
        seen: Counter[str] = Counter()
        for name, kind, seconds in request:
            key = (name, seen[name])
            seen[name] += 1
            rows.setdefault(key, [0.0] * len(requests))[number] = seconds
            types[key] = kind
    if not rows:
        raise UsageError(
            f"{origin} holds no kernel that ran; some versions of benchmark_app write averages "
            "that are empty, so use -report_type detailed_counters"
        )
    checked_count(len(rows), origin)
    kernels = tuple(
        Kernel(name, tuple(row), type=types[name, number]) for (name, number), row in rows.items()
    )
    return ImportedCosts("openvino", origin, kernels, len(requests), runtime="OpenVINO")
