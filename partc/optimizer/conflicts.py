"""Why a problem has no plan: a smallest set of its constraints that cannot hold together."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from partc.optimizer.evaluation import evaluate
from partc.optimizer.instance import NoHostLeftError, build_instance
from partc.optimizer.models import build_model
from partc.optimizer.problem import Constraints, Problem
from partc.optimizer.tightening import tighten
from partc.optimizer.watchdog import solve_guarded

_ANY_PLAN_GAP = 0.99
_PAIRS_OF_AT_MOST = 16
_STEP_S = 10.0
_MOST_ATTEMPTS = 10


@dataclass(frozen=True)
class _Demand:
    """One constraint in the user's words, and how to put it on a problem that has none."""

    sentence: str
    apply: Callable[[Problem], Problem]
    of_one_op: bool = False


def conflicting_constraints(problem: Problem, *, time_limit_s: float = 60.0) -> tuple[str, ...]:
    """Sentences for constraints of which no plan satisfies all, and none can be left out.

    Of up to 16 constraints all single ones and all pairs are tried first, of more all single ones
    that are not about one op; so small conflicts are smallest ones. Larger ones are irreducible.
    When time runs out, the set is still a conflict, but some of it may be superfluous.
    """
    stuck = [op.name for op in problem.ops if not op.cost_s]
    if stuck:
        return (f"No host can run op {', '.join(map(repr, stuck))}.",)
    demands = _demands(problem)
    bare = _without_constraints(problem)
    ends = time.perf_counter() + time_limit_s

    def conflict(chosen: Sequence[_Demand]) -> bool:
        left_s = ends - time.perf_counter()
        if left_s <= 0:
            return False
        trial = bare
        for demand in chosen:
            trial = demand.apply(trial)
        return _has_plan(trial, min(left_s, _STEP_S)) is False

    few = len(demands) <= _PAIRS_OF_AT_MOST
    alone = demands if few else [demand for demand in demands if not demand.of_one_op]
    for size in (1, 2) if few else (1,):
        for chosen in itertools.combinations(alone, size):
            if conflict(chosen):
                return tuple(demand.sentence for demand in chosen)
    # What is left out first is the least likely to remain, and a pin says less than a budget.
    by_weight = sorted(demands, key=lambda demand: not demand.of_one_op)
    return tuple(demand.sentence for demand in _irreducible(by_weight, conflict))


def _irreducible(
    demands: list[_Demand], conflict: Callable[[Sequence[_Demand]], bool]
) -> list[_Demand]:
    """Leave out what is not needed, in halves first (a deletion filter)."""
    kept = list(demands)
    step = max(len(kept) // 2, 1)
    while True:
        position = 0
        while position < len(kept):
            without = kept[:position] + kept[position + step :]
            if without and conflict(without):
                kept = without
            else:
                position += step
        if step == 1:
            return kept
        step = max(step // 2, 1)


def _has_plan(problem: Problem, time_limit_s: float) -> bool | None:
    """Whether some plan satisfies all constraints; None if that was not found out in time."""
    try:
        instance = tighten(build_instance(problem))
    except NoHostLeftError:
        return False
    costs = [seconds for unit in instance.cost_s for seconds in unit.values() if seconds > 0]
    model = build_model(instance, 1.0 / max(costs, default=1.0))
    if not model.linear.variables:
        placement = instance.placement(model.host_of_unit(np.zeros(0)))
        return not evaluate(problem, placement, model.chosen_codecs(np.zeros(0))).violations
    for attempt in range(_MOST_ATTEMPTS):
        raw = solve_guarded(
            model.linear.arrays(), time_limit_s=time_limit_s, gap=_ANY_PLAN_GAP, strict=attempt > 0
        )
        if raw.values is None:
            return False if raw.status == "infeasible" else None
        placement = instance.placement(model.host_of_unit(raw.values))
        if not evaluate(problem, placement, model.chosen_codecs(raw.values)).violations:
            return True
        model.exclude(raw.values)
    return None


def _without_constraints(problem: Problem) -> Problem:
    limits = problem.constraints
    return problem.changed(
        objective="latency",
        hosts=tuple(host.model_copy(update={"memory_bytes": None}) for host in problem.hosts),
        constraints=Constraints(activations=limits.activations),
    )


def _demands(problem: Problem) -> list[_Demand]:
    limits = problem.constraints
    found: list[_Demand] = []

    def add(sentence: str, apply: Callable[[Problem], Problem], *, of_one_op: bool = False) -> None:
        found.append(_Demand(sentence, apply, of_one_op))

    for host in problem.hosts:
        if host.memory_bytes is not None:
            size = _bytes_text(host.memory_bytes)
            add(f"Host {host.name!r} has {size} of memory.", _memory(host.name, host.memory_bytes))
    for op in problem.ops:
        if op.name in limits.pinned:
            home = limits.pinned[op.name]
            reason = "" if home in op.cost_s else ", which cannot run it"
            add(
                f"Op {op.name!r} is pinned to host {home!r}{reason}.",
                _entry("pinned", op.name, home),
                of_one_op=True,
            )
        if limits.forbidden.get(op.name):
            hosts = limits.forbidden[op.name]
            listing = ", ".join(map(repr, hosts))
            also = sorted(set(problem.host_names) - set(op.cost_s))
            reason = f", and {', '.join(map(repr, also))} cannot run it" if also else ""
            add(
                f"Op {op.name!r} is forbidden on {listing}{reason}.",
                _entry("forbidden", op.name, hosts),
                of_one_op=True,
            )
    for group in limits.together:
        add(f"Ops {', '.join(map(repr, group))} must share a host.", _item("together", group))
    for tensor in limits.keep_local:
        add(
            f"Tensor {tensor!r} must stay on the host where it arises.", _item("keep_local", tensor)
        )
    if limits.monotone:
        add("The plan must be monotone.", _field("monotone", True))
    if limits.contiguous:
        add("The plan must be contiguous.", _field("contiguous", True))
    for name, most in limits.max_segments.items():
        add(f"Host {name!r} may run at most {most} segments.", _entry("max_segments", name, most))
    for name, budget_j in limits.energy_j.items():
        add(f"Host {name!r} may use at most {budget_j:.6g} J.", _entry("energy_j", name, budget_j))
    if limits.deadline_s is not None:
        seconds = limits.deadline_s
        add(f"The latency must be at most {seconds:.6g} s.", _field("deadline_s", seconds))
    if limits.period_s is not None:
        seconds = limits.period_s
        sentence = f"No host or link may be busy for more than {seconds:.6g} s of a request."
        add(sentence, _field("period_s", seconds))
    if limits.loss_budget is not None:
        loss = limits.loss_budget
        add(f"The codecs may lose at most {loss:.6g}.", _field("loss_budget", loss))
    return found


def _memory(name: str, size_bytes: float) -> Callable[[Problem], Problem]:
    def apply(problem: Problem) -> Problem:
        return problem.changed(
            hosts=tuple(
                host.model_copy(update={"memory_bytes": size_bytes}) if host.name == name else host
                for host in problem.hosts
            )
        )

    return apply


def _field(name: str, value: object) -> Callable[[Problem], Problem]:
    return lambda problem: problem.constrained(**{name: value})


def _entry(name: str, key: str, value: object) -> Callable[[Problem], Problem]:
    return lambda problem: problem.constrained(
        **{name: getattr(problem.constraints, name) | {key: value}}
    )


def _item(name: str, value: object) -> Callable[[Problem], Problem]:
    return lambda problem: problem.constrained(
        **{name: (*getattr(problem.constraints, name), value)}
    )


def _bytes_text(size_bytes: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= size:
            return f"{size_bytes / size:.4g} {unit}"
    return f"{size_bytes:g} bytes"
