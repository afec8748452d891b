"""Why a horizontal problem has no plan: constraints that cannot hold together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from partc.errors import OptimizerError
from partc.optimizer.horizontal.model import HorizontalModel
from partc.optimizer.horizontal.problem import HorizontalProblem
from partc.optimizer.problem import Constraints
from partc.optimizer.watchdog import solve_guarded

_ANY_PLAN_GAP = 0.99
_STEP_S = 10.0


@dataclass(frozen=True)
class _Demand:
    """One constraint in the user's words: a host's memory, or one entry of a constraint."""

    sentence: str
    kind: str
    key: str | tuple[str, ...] | None
    value: Any


def horizontal_conflicts(
    problem: HorizontalProblem, *, time_limit_s: float, must_tile: bool = False
) -> tuple[str, ...]:
    """Sentences for constraints of which no plan satisfies all, and none can be left out.

    When time runs out the set is still a conflict, but some of it may be superfluous.
    """
    tiled = frozenset().union(*problem.range_ops.values())
    stuck = [op.name for op in problem.ops if not op.cost_s and op.name not in tiled]
    if stuck:
        return (f"No host can run op {', '.join(map(repr, stuck))}.",)
    demands = _demands(problem)
    ends = time.perf_counter() + time_limit_s

    def conflict(chosen: Sequence[_Demand]) -> bool:
        left_s = ends - time.perf_counter()
        if left_s <= 0:
            return False
        trial = _with_only(problem, chosen)
        model = HorizontalModel(trial, 1.0 / _typical_s(trial), tiles=must_tile)
        try:
            raw = solve_guarded(model.arrays, time_limit_s=min(left_s, _STEP_S), gap=_ANY_PLAN_GAP)
        except OptimizerError:
            return False
        return raw.status == "infeasible"

    kept = list(demands)
    step = max(len(kept) // 2, 1)
    while True:
        position = 0
        while position < len(kept):
            without = kept[:position] + kept[position + step :]
            if conflict(without):
                kept = without
            else:
                position += step
        if step == 1:
            break
        step = max(step // 2, 1)
    if not kept and must_tile:
        return ("No arc can be used at all.",)
    return tuple(demand.sentence for demand in kept)


def _typical_s(problem: HorizontalProblem) -> float:
    return max((max(op.cost_s.values(), default=0.0) for op in problem.ops), default=0.0) or 1.0


def _demands(problem: HorizontalProblem) -> list[_Demand]:
    limits = problem.constraints
    found = []
    for op, home in limits.pinned.items():
        found.append(_Demand(f"Op {op!r} is pinned to host {home!r}.", "pinned", op, home))
    for op, hosts in limits.forbidden.items():
        sentence = f"Op {op!r} is forbidden on {', '.join(map(repr, hosts))}."
        found.append(_Demand(sentence, "forbidden", op, hosts))
    for group in limits.together:
        sentence = f"Ops {', '.join(map(repr, group))} must share a host."
        found.append(_Demand(sentence, "together", group, None))
    for tensor in limits.keep_local:
        sentence = f"Tensor {tensor!r} must stay on the host where it arises."
        found.append(_Demand(sentence, "keep_local", tensor, None))
    for host in problem.hosts:
        size = host.memory_bytes
        if size is not None:
            sentence = f"Host {host.name!r} has {size:.9g} bytes of memory."
            found.append(_Demand(sentence, "memory", host.name, size))
    for name, budget_j in limits.energy_j.items():
        sentence = f"Host {name!r} may use at most {budget_j:.6g} J."
        found.append(_Demand(sentence, "energy_j", name, budget_j))
    for kind, text in (
        ("deadline_s", "The latency must be at most {:.6g} s."),
        ("period_s", "No host or link may be busy for more than {:.6g} s of a request."),
    ):
        seconds = getattr(limits, kind)
        if seconds is not None:
            found.append(_Demand(text.format(seconds), kind, None, seconds))
    return found


def _with_only(problem: HorizontalProblem, chosen: Sequence[_Demand]) -> HorizontalProblem:
    """The problem with no constraints but these."""
    fields: dict[str, Any] = {}
    memory: dict[str, float] = {}
    for demand in chosen:
        if demand.kind == "memory":
            memory[str(demand.key)] = demand.value
        elif demand.kind in ("together", "keep_local"):
            fields[demand.kind] = (*fields.get(demand.kind, ()), demand.key)
        elif demand.key is None:
            fields[demand.kind] = demand.value
        else:
            fields[demand.kind] = fields.get(demand.kind, {}) | {demand.key: demand.value}
    hosts = tuple(
        host.model_copy(update={"memory_bytes": memory.get(host.name)}) for host in problem.hosts
    )
    return problem.changed(objective="latency", hosts=hosts, constraints=Constraints(**fields))
