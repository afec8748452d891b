"""Optima by other means: a shortest path, and trying every plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import networkx as nx

from partc.errors import UsageError
from partc.optimizer.horizontal import (
    HorizontalPlan,
    HorizontalProblem,
    TiledRange,
    evaluate_horizontal,
)


def shortest_path_s(data: dict[str, Any]) -> float:
    """The least latency of a chain on a full mesh, from the JSON data alone.

    States are (cut tensor, whole on a host) and (cut tensor, tiled as a tiling).
    """
    price: dict[tuple[str, str], tuple[float, float]] = {}
    for link in data["links"]:
        (a, b), per_byte, fixed = link["between"], link["seconds_per_byte"], link["latency_s"]
        price[a, b] = (per_byte[0], fixed[0])
        price[b, a] = (per_byte[1], fixed[1])
    shared = set(data.get("shared_ports", ()))

    def message_s(source: str, destination: str, size: float) -> float:
        per_byte, fixed = price[source, destination]
        return size * per_byte + fixed

    def exchange_s(messages: list[tuple[str, str, float]]) -> float:
        sent = [each for each in messages if each[0] != each[1] and each[2] > 0]
        graph = nx.Graph()
        for number, (source, destination, size) in enumerate(sent):
            graph.add_node(number, seconds=message_s(source, destination, size))
            for port in ({("out", source)} if source in shared else set()) | (
                {("in", destination)} if destination in shared else set()
            ):
                graph.add_edge(number, port)
        return max(
            (
                sum(graph.nodes[node].get("seconds", 0.0) for node in group)
                for group in nx.connected_components(graph)
            ),
            default=0.0,
        )

    hosts = [host["name"] for host in data["hosts"]]
    size = {tensor["name"]: tensor["size_bytes"] for tensor in data["tensors"]}
    tiles_on = {tiling["name"]: tiling["hosts"] for tiling in data["tilings"]}
    parts = {(g["tensor"], g["tiling"]): g["tile_bytes"] for g in data["gathers"]}
    ways = nx.MultiDiGraph()

    def whole(tensor: str, to: str) -> list[tuple[Any, float]]:
        """Every state from which the tensor can be made whole on a host, and in how long."""
        found: list[tuple[Any, float]] = []
        for host in hosts:
            seconds = 0.0 if host == to else message_s(host, to, size[tensor])
            found.append(((tensor, host), seconds))
        for name, senders in tiles_on.items():
            if (tensor, name) in parts:
                held = zip(senders, parts[tensor, name], strict=True)
                messages = [(sender, to, each) for sender, each in held]
                found.append(((tensor, name), exchange_s(messages)))
        return found

    for op in data["ops"]:
        (entry,), (exit_,) = op["inputs"], op["outputs"]
        for host, cost_s in op["cost_s"].items():
            for state, seconds in whole(entry, host):
                ways.add_edge(state, (exit_, host), weight=seconds + cost_s)
    for arc in data["arcs"]:
        receivers = tiles_on[arc["tiling"]]
        end = (arc["exit"], arc["tiling"])
        slowest_s = max(arc["tile_s"])
        for host in hosts if arc.get("entry_bytes") is not None else []:
            needed = zip(receivers, arc["entry_bytes"], strict=True)
            scatter_s = exchange_s([(host, to, each) for to, each in needed])
            for state, seconds in whole(arc["entry"], host):
                ways.add_edge(state, end, weight=seconds + scatter_s + slowest_s)
        for source, matrix in arc.get("halo_bytes", {}).items():
            halo_s = exchange_s(
                [
                    (sender, receiver, each)
                    for sender, row in zip(tiles_on[source], matrix, strict=True)
                    for receiver, each in zip(receivers, row, strict=True)
                ]
            )
            ways.add_edge((arc["entry"], source), end, weight=halo_s + slowest_s)
    ((first, home),) = data["inputs"].items()
    ((last, wanted),) = data["outputs"].items()
    for state, seconds in whole(last, wanted):
        ways.add_edge(state, "answer", weight=seconds)
    return float(nx.shortest_path_length(ways, (first, home), "answer", weight="weight"))


def plans(problem: HorizontalProblem) -> Iterator[HorizontalPlan]:
    """Every plan, some of which make no sense."""
    ways = [
        (
            TiledRange(arc.entry, arc.exit, arc.tiling, source, number),
            problem.range_ops[arc.entry, arc.exit],
        )
        for number, arc in enumerate(problem.arcs)
        for source in [
            *(problem.host_names if arc.entry_bytes is not None else ()),
            *arc.halo_bytes,
        ]
    ]

    def choose(
        first: int, covered: frozenset[str]
    ) -> Iterator[tuple[tuple[TiledRange, ...], frozenset[str]]]:
        yield (), covered
        for number in range(first, len(ways)):
            tiles, inside = ways[number]
            if not inside & covered:
                for more, all_covered in choose(number + 1, covered | inside):
                    yield (tiles, *more), all_covered

    for tiles, covered in choose(0, frozenset()):
        left = [op for op in problem.ops if op.name not in covered]
        for hosts in itertools.product(*(list(op.cost_s) for op in left)):
            yield HorizontalPlan(
                {op.name: host for op, host in zip(left, hosts, strict=True)}, tiles
            )


def brute_force(problem: HorizontalProblem) -> tuple[float, HorizontalPlan | None]:
    """The best plan by trying all; (infinity, None) when there is none."""
    best: tuple[float, HorizontalPlan | None] = (math.inf, None)
    for plan in plans(problem):
        try:
            evaluation = evaluate_horizontal(problem, plan)
        except UsageError:
            continue  # begins in tiles that are not there
        if not evaluation.violations and evaluation.objective < best[0]:
            best = (evaluation.objective, plan)
    return best
