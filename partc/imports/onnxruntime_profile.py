"""ONNX Runtime's profile: the file that ``end_profiling`` names, or ``onnxruntime_perf_test -p``.

A JSON list of trace events. Each executed kernel has one of category ``Node``, named after its node
and ``_kernel_time``, with ``ts`` and ``dur`` in microseconds; each run has ``model_run`` around
them. Kernels in the bodies of If, Loop and Scan have events within the time of the kernel around.
"""

from __future__ import annotations

from collections import Counter
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

_SUFFIX = "_kernel_time"
_BODIED = frozenset(("If", "Loop", "Scan", "SequenceMap"))
_FEWEST_TO_DROP_ONE = 4
_MOST_EVENTS = 5_000_000


def is_profile(data: object) -> bool:
    """Whether parsed JSON is of this kind."""
    return isinstance(data, list) and any(
        isinstance(event, dict) and event.get("cat") == "Node" for event in data
    )


def parse(data: list[Any], origin: str) -> ImportedCosts:
    """Kernels with a time for each run.

    Raises:
        UsageError: an event makes no sense, or no run is complete.
    """
    if len(data) > _MOST_EVENTS:
        raise UsageError(f"{origin} has more than {_MOST_EVENTS:,} events; profile fewer runs")
    kernels = [event for event in data if _is_kernel(event)]
    times = [_times(event, origin) for event in kernels]
    order = sorted(range(len(kernels)), key=lambda index: (times[index][0], -times[index][1]))
    runs = _runs(data, origin)
    if not runs:
        raise UsageError(
            f"{origin} holds no complete run (no model_run event); "
            "call end_profiling after the last run"
        )
    rows: dict[tuple[str, int], list[float]] = {}
    types: dict[tuple[str, int], str] = {}
    position = 0
    for number, (_, ended) in enumerate(runs):
        seen: Counter[str] = Counter()
        body_ends = 0.0
        while position < len(order) and times[order[position]][0] <= ended:
            index = order[position]
            position += 1
            started, took = times[index]
            if started + took <= body_ends:
                continue  # counts already, in the kernel whose body it is in
            name = checked_name(kernels[index]["name"], origin).removesuffix(_SUFFIX)
            op_type = _argument(kernels[index], "op_name")
            if op_type in _BODIED:
                body_ends = started + took
            key = (name, seen[name])
            seen[name] += 1
            rows.setdefault(key, [0.0] * len(runs))[number] = took
            types[key] = op_type
            if len(rows) > MOST_KERNELS:
                checked_count(len(rows), origin)
    checked_count(len(rows), origin)
    first = 1 if len(runs) >= _FEWEST_TO_DROP_ONE else 0
    return ImportedCosts(
        kind="onnxruntime",
        origin=origin,
        kernels=tuple(
            Kernel(name, tuple(row[first:]), type=types[name, number])
            for (name, number), row in rows.items()
        ),
        runs=len(runs) - first,
        whole_s=tuple(ended - started for started, ended in runs[first:]),
        runtime=", ".join(sorted({_argument(event, "provider") for event in kernels} - {""})),
        threads=_threads(kernels),
        notices=(f"{origin}: the first of {len(runs)} runs does not count; caches were cold",)
        if first
        else (),
    )


def _is_kernel(event: object) -> bool:
    return (
        isinstance(event, dict)
        and event.get("cat") == "Node"
        and str(event.get("name", "")).endswith(_SUFFIX)
    )


def _times(event: dict[str, Any], origin: str) -> tuple[float, float]:
    """When it began and how long it took, seconds."""
    where = f"{origin}: of {str(event.get('name'))[:60]!r}, "
    started = checked_seconds(event.get("ts"), 1e-6, f"{where}ts")
    return started, checked_seconds(event.get("dur"), 1e-6, f"{where}dur")


def _runs(data: list[Any], origin: str) -> list[tuple[float, float]]:
    """Begin and end of each run, seconds."""
    found = []
    for event in data:
        is_session = isinstance(event, dict) and event.get("cat") == "Session"
        if is_session and event.get("name") == "model_run":
            started, took = _times(event, origin)
            found.append((started, started + took))
    return sorted(found)


def _argument(event: dict[str, Any], name: str) -> str:
    arguments = event.get("args")
    value = arguments.get(name, "") if isinstance(arguments, dict) else ""
    return value if isinstance(value, str) and len(value) < 100 else ""


def _threads(kernels: list[dict[str, Any]]) -> int | None:
    """As many as the thread pool has, and the caller's; known where the pool has its statistics.

    With one thread there is no pool, and the statistics are an empty text.
    """
    for event in kernels:
        arguments = event.get("args")
        if not isinstance(arguments, dict) or "thread_scheduling_stats" not in arguments:
            continue
        found = arguments["thread_scheduling_stats"]
        if found == "":
            return 1
        if isinstance(found, dict) and isinstance(found.get("sub_threads"), dict):
            return len(found["sub_threads"]) + 1
    return None
