"""The rows that keep each host within its memory; a weight counts once, whoever uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from partc.optimizer.horizontal.model import HorizontalModel

_ROW_SIZE = 1000.0


def hold_weights(model: HorizontalModel) -> None:
    """One budget per host with a limit."""
    for host in model.problem.hosts:
        if host.memory_bytes is not None:
            _hold(model, host.name, host.memory_bytes)


def _hold(model: HorizontalModel, host: str, memory_bytes: float) -> None:
    problem, rows = model.problem, model.rows
    listed = np.array([host in arc.weights for arc in problem.arcs], dtype=bool)
    has_tile = np.array(
        [host in problem.tiling_by_name[arc.tiling].hosts for arc in problem.arcs], dtype=bool
    )
    plain = (has_tile & ~listed)[model.y_arc] if len(problem.arcs) else np.zeros(0, dtype=bool)
    tiled = model.tiled_share(plain)
    users: dict[str, list[dict[int, float]]] = {}
    for op in problem.ops:
        terms = {}
        if (op.name, host) in model.x:
            terms[model.x[op.name, host]] = 1.0
        if op.name in model.atom_of:
            terms[int(tiled[model.atom_of[op.name]])] = 1.0
        for weight in dict.fromkeys(op.weights if terms else ()):
            users.setdefault(weight, []).append(terms)
    for position, column in zip(model.y_arc.tolist(), model.y.tolist(), strict=True):
        for weight in problem.arcs[position].weights.get(host, ()):
            users.setdefault(weight, []).append({column: 1.0})
    # Weights that the same columns use are one.
    total: dict[tuple[frozenset[int], ...], float] = {}
    for weight, uses in users.items():
        key = tuple(dict.fromkeys(frozenset(terms) for terms in uses))
        total[key] = total.get(key, 0.0) + problem.weight_bytes[weight]
    budget: dict[int, float] = {}
    for uses_of, size_bytes in total.items():
        held = rows.add_column()
        for columns in uses_of:
            rows.add_row({held: 1.0} | dict.fromkeys(columns, -1.0), 0.0, np.inf)
        budget[held] = size_bytes
    size = max([memory_bytes, *budget.values()], default=0.0)
    factor = _ROW_SIZE / size if size > 0 else 1.0
    terms = {column: value * factor for column, value in budget.items() if value > 0}
    rows.add_row(terms, -np.inf, memory_bytes * factor)
