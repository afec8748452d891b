"""Why a problem has no plan: a smallest set of its constraints that cannot hold together.

A conflict has something in common with what every plan breaks. So the smallest set that hits all
that known plans break is a conflict itself, and then a smallest one, or some plan satisfies it and
breaks something else (implicit hitting sets: Ignatiev et al., "Smallest MUS Extraction with Minimal
Hitting Set Dualization", CP 2015).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partc.errors import OptimizerError
from partc.optimizer.cbc import run_cbc
from partc.optimizer.evaluation import evaluate
from partc.optimizer.highs import run_highs
from partc.optimizer.instance import Instance, NoHostLeftError, build_instance
from partc.optimizer.linear import LinearModel, Sum
from partc.optimizer.models import build_model
from partc.optimizer.placement_model import PlacementModel
from partc.optimizer.problem import Constraints, Problem
from partc.optimizer.tightening import tighten
from partc.optimizer.watchdog import solve_guarded

_ANY_PLAN_GAP = 0.99
_STEP_S = 10.0
_MOST_ATTEMPTS = 10
_OF_ONE_OP = 1.0001  # a pin says less than a budget, where both make a conflict of one size

ConflictKind = Literal["smallest", "irreducible", "conflicting"]
Placement = dict[str, str]
Codecs = dict[tuple[str, str, str], str]


@dataclass(frozen=True)
class Conflict:
    """Constraints of which no plan satisfies all, as sentences.

    `kind` is "smallest" (no fewer constraints conflict), "irreducible" (without any one of these
    there is a plan; the time was too short for more), or "conflicting" (some may be superfluous).
    """

    sentences: tuple[str, ...]
    kind: ConflictKind


@dataclass(frozen=True)
class _Demand:
    """One constraint in the user's words, and how to put it on a problem that has none."""

    sentence: str
    apply: Callable[[Problem], Problem]
    of_one_op: bool = False


class _OutOfTimeError(Exception):
    """The time is up, or a solver did not settle a step in its share of it."""


def explain_conflict(problem: Problem, *, time_limit_s: float = 60.0) -> Conflict:
    """Constraints that cannot hold together, as few as can be found in the time.

    The problem must have no plan; otherwise what is returned means nothing.
    """
    stuck = [op.name for op in problem.ops if not op.cost_s]
    if stuck:
        return Conflict((f"No host can run op {', '.join(map(repr, stuck))}.",), "smallest")
    return _Search(problem, time_limit_s).run()


def conflicting_constraints(problem: Problem, *, time_limit_s: float = 60.0) -> tuple[str, ...]:
    """The sentences of `explain_conflict`."""
    return explain_conflict(problem, time_limit_s=time_limit_s).sentences


class _Search:
    """Works on sets of positions in `demands`."""

    def __init__(self, problem: Problem, time_limit_s: float) -> None:
        self.demands = _demands(problem)
        self.bare = _without_constraints(problem)
        self.ends = time.perf_counter() + time_limit_s
        self.alone: dict[int, Problem] = {}

    def run(self) -> Conflict:
        # What is left out first is the least likely to remain.
        every = sorted(range(len(self.demands)), key=lambda k: not self.demands[k].of_one_op)
        found, kind = self._irreducible(every)
        if kind == "irreducible":
            smallest = self._smallest(len(found))
            if smallest is not None:
                found, kind = smallest or found, "smallest"
        if not self._confirmed(found):
            found, kind = every, "conflicting"
        return Conflict(tuple(self.demands[k].sentence for k in sorted(found)), kind)

    def _irreducible(self, every: list[int]) -> tuple[list[int], ConflictKind]:
        """Leave out what is not needed, in halves first (a deletion filter)."""
        kept = every
        step = max(len(kept) // 2, 1)
        try:
            while True:
                position = 0
                while position < len(kept):
                    without = kept[:position] + kept[position + step :]
                    if without and self._plan_for(without) is None:
                        kept = without
                    else:
                        position += step
                if step == 1:
                    return kept, "irreducible"
                step = max(step // 2, 1)
        except _OutOfTimeError:
            return kept, "conflicting"

    def _smallest(self, known: int) -> list[int] | None:
        """A smallest conflict; empty where none is below the known size, None without a proof."""
        broken_by_plans: list[frozenset[int]] = []
        try:
            while True:
                candidate = self._hitting(broken_by_plans)
                if len(candidate) >= known:
                    return []
                plan = self._plan_for(candidate)
                if plan is None:
                    return candidate
                broken_by_plans.append(self._least_broken(plan))
        except _OutOfTimeError:
            return None

    def _least_broken(self, plan: tuple[Placement, Codecs]) -> frozenset[int]:
        """What a plan breaks, after making it keep all that one plan can."""
        broken = self._broken(plan)
        kept = set(range(len(self.demands))) - broken
        for demand in sorted(broken):
            if demand in kept:
                continue
            better = self._plan_for([*kept, demand])
            if better is not None:
                kept = set(range(len(self.demands))) - self._broken(better)
        return frozenset(range(len(self.demands))) - kept

    def _broken(self, plan: tuple[Placement, Codecs]) -> set[int]:
        return {k for k in range(len(self.demands)) if evaluate(self._with(k), *plan).violations}

    def _with(self, demand: int) -> Problem:
        if demand not in self.alone:
            self.alone[demand] = self.demands[demand].apply(self.bare)
        return self.alone[demand]

    def _hitting(self, sets: Sequence[frozenset[int]]) -> list[int]:
        """The fewest demands of which each set has one."""
        if not sets:
            return []
        model = LinearModel()
        chosen = {k: model.variable("c", integer=True) for k in sorted(frozenset().union(*sets))}
        total = Sum()
        for k, choice in chosen.items():
            total.add(choice, _OF_ONE_OP if self.demands[k].of_one_op else 1.0)
        for each in sets:
            row = Sum()
            for k in each:
                row.add(chosen[k])
            model.at_least(row.expression(), 1.0)
        model.minimise(total)
        left_s = self._left_s()
        raw = run_highs(model.arrays(), integer=True, time_limit_s=left_s, gap=0.0)
        if raw.values is None or raw.status != "optimal":
            raise _OutOfTimeError
        return [k for k, value in zip(chosen, raw.values, strict=True) if value > 0.5]

    def _left_s(self) -> float:
        left_s = self.ends - time.perf_counter()
        if left_s <= 0:
            raise _OutOfTimeError
        return left_s

    def _problem(self, chosen: Iterable[int]) -> Problem:
        trial = self.bare
        for demand in chosen:
            trial = self.demands[demand].apply(trial)
        return trial

    def _plan_for(self, chosen: Iterable[int]) -> tuple[Placement, Codecs] | None:
        return _any_plan(self._problem(chosen), min(self._left_s(), _STEP_S))

    def _confirmed(self, chosen: Iterable[int]) -> bool:
        """Whether CBC agrees, too."""
        try:
            _, model = _model_of(self._problem(chosen))
        except NoHostLeftError:
            return True
        if not model.linear.variables:
            return True
        try:
            raw = run_cbc(model.linear, time_limit_s=_STEP_S, gap=_ANY_PLAN_GAP)
        except OptimizerError:
            return True
        return raw.values is None


def _model_of(problem: Problem) -> tuple[Instance, PlacementModel]:
    instance = tighten(build_instance(problem))
    costs = [seconds for unit in instance.cost_s for seconds in unit.values() if seconds > 0]
    return instance, build_model(instance, 1.0 / max(costs, default=1.0))


def _any_plan(problem: Problem, time_limit_s: float) -> tuple[Placement, Codecs] | None:
    """Some plan that satisfies all constraints, or None if there is none.

    Raises:
        _OutOfTimeError: that was not found out in time.
    """
    try:
        instance, model = _model_of(problem)
    except NoHostLeftError:
        return None
    certain = not model.linear.variables
    for attempt in range(_MOST_ATTEMPTS):
        values = np.zeros(0)
        if not certain:
            arrays = model.linear.arrays()
            raw = solve_guarded(
                arrays, time_limit_s=time_limit_s, gap=_ANY_PLAN_GAP, strict=attempt > 0
            )
            if raw.values is None and raw.status == "infeasible":
                return None
            if raw.values is None:
                raise _OutOfTimeError
            values = raw.values
        placement = instance.placement(model.host_of_unit(values))
        codecs = model.chosen_codecs(values)
        if not evaluate(problem, placement, codecs).violations:
            return placement, codecs
        if certain:
            return None
        model.exclude(values)
    raise _OutOfTimeError


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
