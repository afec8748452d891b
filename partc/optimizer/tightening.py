"""Leaves out hosts that a unit cannot be on, by sums of least costs against the limits.

What is left out is proven by arithmetic, and what is left fits the limits' size: a model whose
coefficients are nine orders of magnitude above a deadline is beyond a solver's rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from partc.optimizer.instance import Instance, NoHostLeftError
from partc.optimizer.problem import Problem

_SLACK = 1e-6
_MOST_ROUNDS = 10


@dataclass(frozen=True)
class _Limit:
    """A sum over the units that must stay below a value.

    `factor` is what a second on each host counts; the rest of the sum is at least `other`.
    """

    factor: tuple[float, ...]
    most: float
    other: float = 0.0


def over(value: float, limit: float) -> bool:
    """Above the limit by more than is granted to rounding."""
    return value > limit * (1 + _SLACK) + 1e-12


def tighten(instance: Instance, *, best_known: float | None = None) -> Instance:
    """The instance without hosts on which a unit alone, with the least of the others, is too much.

    Args:
        instance: what is to be placed.
        best_known: objective of a legal plan; then what only worse plans use is left out too.

    Raises:
        NoHostLeftError: nothing is left for some unit, so there is no plan.
    """
    limits = _limits(instance.problem, instance.constant_s)
    if best_known is not None:
        limits += _better_than(instance.problem, instance.constant_s, best_known)
    costs = _within_memory(instance)
    for _ in range(_MOST_ROUNDS):
        before = sum(map(len, costs))
        for limit in limits:
            costs = _within(limit, costs)
        if sum(map(len, costs)) == before:
            break
    for index, unit in enumerate(costs):
        if not unit:
            names = ", ".join(map(repr, instance.ops_of[index]))
            raise NoHostLeftError(f"No host fits {names}.")
    return replace(instance, cost_s=tuple(costs))


def _within(limit: _Limit, costs: list[dict[int, float]]) -> list[dict[int, float]]:
    least = [
        min((s * limit.factor[host] for host, s in unit.items()), default=0.0) for unit in costs
    ]
    total = limit.other + math.fsum(least)
    return [
        {
            host: s
            for host, s in unit.items()
            if not over(total - least[index] + s * limit.factor[host], limit.most)
        }
        for index, unit in enumerate(costs)
    ]


def _limits(problem: Problem, constant_s: float) -> list[_Limit]:
    wanted = problem.constraints
    hosts = range(len(problem.hosts))
    found = []
    if wanted.deadline_s is not None:
        found.append(_Limit((1.0,) * len(hosts), wanted.deadline_s, constant_s))
    for name, most_j in wanted.energy_j.items():
        found.append(_Limit(_watts(problem, [name]), most_j))
    if wanted.period_s is not None:
        found += [_Limit(_one(host, len(hosts)), wanted.period_s) for host in hosts]
    return found


def _better_than(problem: Problem, constant_s: float, best_known: float) -> list[_Limit]:
    hosts = range(len(problem.hosts))
    if problem.objective == "latency":
        return [_Limit((1.0,) * len(hosts), best_known, constant_s)]
    if problem.objective == "energy":
        return [_Limit(_watts(problem, problem.energy_hosts or problem.host_names), best_known)]
    return [_Limit(_one(host, len(hosts)), best_known) for host in hosts]


def _watts(problem: Problem, counted: Sequence[str]) -> tuple[float, ...]:
    """What a second of work on each host costs the counted ones: their own power, or idling."""
    return tuple(
        sum(
            other.power_active_w if other.name == host.name else other.power_idle_w
            for other in problem.hosts
            if other.name in counted
        )
        for host in problem.hosts
    )


def _one(host: int, hosts: int) -> tuple[float, ...]:
    return tuple(1.0 if other == host else 0.0 for other in range(hosts))


def _within_memory(instance: Instance) -> list[dict[int, float]]:
    """Without the hosts whose memory a unit's own weights exceed."""
    hosts = instance.problem.hosts
    if all(host.memory_bytes is None for host in hosts):
        return list(instance.cost_s)
    size = {weight.name: weight.size_bytes for weight in instance.problem.weights}
    weights = {op.name: op.weights for op in instance.problem.ops}
    room = [math.inf if host.memory_bytes is None else host.memory_bytes for host in hosts]
    fitting = []
    for names, unit in zip(instance.ops_of, instance.cost_s, strict=True):
        held = {weight for name in names for weight in weights[name]}
        need_bytes = math.fsum(size[name] for name in held)
        fitting.append({host: s for host, s in unit.items() if not over(need_bytes, room[host])})
    return fitting
