"""The rows that keep each host within its memory: weights once, and live tensors where counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partc.optimizer.linear import ONE, Affine, Sum

if TYPE_CHECKING:
    from partc.optimizer.placement_model import PlacementModel


def add_memory_rows(model: PlacementModel) -> None:
    """One budget per host with a limit; with activations, one per step at which they differ."""
    if all(host.memory_bytes is None for host in model.problem.hosts):
        return
    users = _bytes_by_users(model)
    for host, data in enumerate(model.problem.hosts):
        if data.memory_bytes is None:
            continue
        weights = Sum()
        for units, size_bytes in users.items():
            places = [model.at[unit][host] for unit in units if host in model.at[unit]]
            if places:
                weights.add(_any_of(model, places), size_bytes)
        if not model.problem.constraints.activations:
            model.linear.budget(weights, data.memory_bytes)
            continue
        for live in _largest(_live_tensors(model, host)):
            total = Sum()
            total.add_sum(weights)
            for place, size_bytes in live.values():
                total.add(place, size_bytes)
            model.linear.budget(total, data.memory_bytes)


def _bytes_by_users(model: PlacementModel) -> dict[tuple[int, ...], float]:
    """Weights that the same units use are one."""
    units: dict[str, dict[int, None]] = {}
    for op in model.problem.ops:
        for name in op.weights:
            units.setdefault(name, {})[model.instance.unit_of[op.name]] = None
    total: dict[tuple[int, ...], float] = {}
    for weight in model.problem.weights:
        if weight.name in units and weight.size_bytes > 0:
            key = tuple(sorted(units[weight.name]))
            total[key] = total.get(key, 0.0) + weight.size_bytes
    return total


def _any_of(model: PlacementModel, places: list[Affine]) -> Affine:
    """At least 1 where one of the places is 1."""
    if len(places) == 1:
        return places[0]
    if ONE in places:
        return ONE
    held = model.linear.variable("m")
    for place in places:
        model.linear.at_least(held.minus(place))
    return held


Live = dict[str, tuple[Affine, float]]


def _live_tensors(model: PlacementModel, host: int) -> list[Live]:
    """For each step of the ops' order, the tensors that may be live then on the host."""
    problem = model.problem
    position = {op.name: step for step, op in enumerate(problem.ordered_ops, start=1)}
    live: list[Live] = [{} for _ in range(len(position) + 1)]
    for tensor in problem.tensors:
        place = _presence(model, tensor.name, host)
        if place is None or tensor.size_bytes == 0:
            continue
        producer = problem.producer_of.get(tensor.name)
        first = position[producer.name] if producer else 0
        readers = problem.consumers_of[tensor.name]
        last = max((position[op.name] for op in readers), default=0)
        if tensor.name in problem.outputs:
            last = len(position)
        for step in range(first, max(first, last) + 1):
            live[step][tensor.name] = (place, tensor.size_bytes)
    return live


def _largest(live: list[Live]) -> list[Live]:
    """Without the steps at which nothing is live that is not live at a neighbouring step too."""
    kept: list[Live] = []
    for step in live:
        if kept and step.keys() <= kept[-1].keys():
            continue
        if kept and kept[-1].keys() <= step.keys():
            kept.pop()
        kept.append(step)
    return kept


def _presence(model: PlacementModel, tensor: str, host: int) -> Affine | None:
    """1 where the tensor arises on the host or arrives there."""
    problem = model.problem
    total = Sum()
    producer = problem.producer_of.get(tensor)
    if producer is not None:
        source = model.at[model.instance.unit_of[producer.name]].get(host)
        if source is not None:
            total.add(source)
    elif tensor not in problem.inputs:
        return None
    elif problem.inputs[tensor] == problem.host_names[host]:
        return ONE
    for arrival in model.arrivals.get((tensor, host), []):
        total.add(arrival)
    if not total.terms and total.constant == 0.0:
        return None
    return Affine(tuple(total.terms.items()), min(total.constant, 1.0))
