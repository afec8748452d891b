"""Solves a placement problem: relaxation, integer program, second opinion, re-evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from partc.errors import OptimizerError, UsageError
from partc.optimizer.cbc import run_cbc
from partc.optimizer.conflicts import Conflict, explain_conflict
from partc.optimizer.cutting import minimum_cut, why_not_a_cut
from partc.optimizer.downsets import applies, best_chain
from partc.optimizer.evaluation import evaluate
from partc.optimizer.highs import RawResult, run_highs
from partc.optimizer.instance import Instance, NoHostLeftError, build_instance
from partc.optimizer.linear import Arrays
from partc.optimizer.models import build_model
from partc.optimizer.placement_model import PlacementModel
from partc.optimizer.problem import Problem
from partc.optimizer.reducing import reduce_pair
from partc.optimizer.simple_plans import baselines
from partc.optimizer.simulation import simulate
from partc.optimizer.solution import Solution, Status, solution_of
from partc.optimizer.tightening import tighten
from partc.optimizer.watchdog import solve_guarded

_TARGET_OBJECTIVE = 1e4  # what the optimum should be in the model's units
_SMALLEST_OBJECTIVE = 10.0  # below this, rounding shows and the model is built again
_PROVEN = 1e-6  # relative difference of objective and bound that counts as none
_RELATIVE_ERROR = 1e-5  # of the solver's objective against the evaluator's
_SMALL_ROWS = 20_000
_QUICK = ("device-only", "edge-only", "greedy")
_SLOWER = ("balanced-split", "single-cut", "minimum-cut", "even-split", "random")
_LEAST_CHECK_S = 2.0
_EXPLAINING_S = 60.0
_MOST_ATTEMPTS = 20
_LEAST_EXPLAINING_S = 5.0


def solve(problem: Problem, *, time_limit_s: float | None = None, gap: float = 0.0) -> Solution:
    """The best plan and the proof of how good it is.

    Args:
        problem: what to place.
        time_limit_s: wall time for the solvers; the best plan until then is returned.
        gap: relative gap at which a plan counts as optimal.

    Raises:
        UsageError: a limit makes no sense.
        OptimizerError: a solver's plan does not evaluate to what the solver claims.
    """
    if time_limit_s is not None and not time_limit_s > 0:
        raise UsageError(f"The time limit must be above 0 s, but it is {time_limit_s}.")
    if not 0 <= gap < 1:
        raise UsageError(f"The gap must be at least 0 and below 1, but it is {gap}.")
    answer = _Solve(problem, time_limit_s, gap).run()
    if answer.objective is None:
        return answer
    schedule = simulate(problem, answer.placement, answer.codecs)
    return replace(answer, simulated_latency_s=schedule.latency_s)


def _cost(plan: Solution) -> float:
    return math.inf if plan.objective is None else plan.objective


def solve_pinned(
    problem: Problem, placement: Mapping[str, str], *, time_limit_s: float | None = None
) -> Solution:
    """The best codecs of a placement; `infeasible` is not explained."""
    pinned = problem.constrained(pinned=problem.constraints.pinned | dict(placement))
    return _Solve(pinned, time_limit_s, 0.0, is_part=True).run()


def solve_fast(problem: Problem) -> Solution:
    """The optimum, by a minimum cut where the problem is one."""
    if why_not_a_cut(problem) is None:
        cut = minimum_cut(problem)
        if cut.status != "feasible":
            return cut
    return solve(problem)


class _BrokenPlanError(Exception):
    """A solver's plan is not legal: its rows held only within its rounding."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.values = values


@dataclass
class _Solve:
    problem: Problem
    time_limit_s: float | None
    gap: float
    is_part: bool = False  # of another solve: no simple plans, no explanation

    def run(self) -> Solution:
        self.began = time.perf_counter()
        try:
            instance = build_instance(self.problem)
        except NoHostLeftError:
            return self._infeasible("no choice")
        self.floor_s = -math.inf
        chain = self._best_chain(instance)
        if chain is not None and chain.status == "optimal":
            return chain
        self.reduction = None
        if why_not_a_cut(self.problem) is None:
            self.reduction = reduce_pair(instance)
            self.unreduced, instance = instance, self.reduction.instance
        known = None
        if not self.is_part:
            known = baselines(self.problem, names=_QUICK, codecs=False).best()
        if chain is not None and (known is None or _cost(chain) < _cost(known)):
            known = chain
        reference = known.objective if known is not None and known.objective else None
        scale = _TARGET_OBJECTIVE / (reference or self._typical_cost(instance))
        while True:
            best_known = None if known is None else known.objective
            try:
                model = build_model(tighten(instance, best_known=best_known), scale)
            except NoHostLeftError:
                return self._infeasible("arithmetic")
            answer = self._solve_model(model, known)
            objective = answer.objective
            small = objective is not None and 0 < objective * scale < _SMALLEST_OBJECTIVE
            if not small or objective is None or answer.status != "optimal":
                return answer
            scale = _TARGET_OBJECTIVE / objective
            known = answer

    def _best_chain(self, instance: Instance) -> Solution | None:
        """A contiguous pipeline on a bus, mostly proven; its bound holds in any case."""
        if not applies(self.problem):
            return None
        found = best_chain(instance)
        if found is None:
            return None
        self.floor_s = found.bound_s
        if found.host_of_unit is None:
            return None
        placement = instance.placement(found.host_of_unit)
        evaluation = evaluate(self.problem, placement)
        if evaluation.violations:
            return None
        status, bound = self._judge(evaluation.objective, found.bound_s)
        return solution_of(
            self.problem,
            placement,
            bound=bound,
            status=status,
            solver="downsets",
            solve_s=time.perf_counter() - self.began,
            evaluation=evaluation,
        )

    def _typical_cost(self, instance: Instance) -> float:
        total = instance.constant_s + sum(min(costs.values()) for costs in instance.cost_s)
        return total or 1.0

    def _left_s(self) -> float | None:
        if self.time_limit_s is None:
            return None
        return max(0.0, self.time_limit_s - (time.perf_counter() - self.began))

    def _solve_model(self, model: PlacementModel, known: Solution | None) -> Solution:
        """The optimum; a plan that rounding let through is excluded, and the other solver asked."""
        if not model.linear.variables:
            return self._only_plan(model)
        for attempt in range(_MOST_ATTEMPTS):
            try:
                return self._attempt(model, known, attempt)
            except _BrokenPlanError as broken:
                model.exclude(broken.values)
                if self._left_s() == 0.0:
                    break
        return self._fall_back(known, -math.inf)

    def _attempt(self, model: PlacementModel, known: Solution | None, attempt: int) -> Solution:
        arrays = model.linear.arrays()
        bound = self.floor_s * model.scale
        relaxed = self._relaxed(arrays)
        if relaxed.status == "infeasible":
            return self._second_opinion(model, known)
        if relaxed.status == "optimal" and relaxed.values is not None:
            if model.is_integral(relaxed.values):
                return self._accept(model, relaxed)
            bound = max(bound, relaxed.objective)
        known = self._best_known(known)
        raw = self._whole(model, arrays, attempt)
        if raw.status == "infeasible" and raw.solver == "cbc":
            raw = solve_guarded(arrays, time_limit_s=self._left_s(), gap=self.gap, strict=True)
            if raw.status == "infeasible":
                return self._nothing(known)
        elif raw.status == "infeasible":
            return self._second_opinion(model, known)
        if raw.bound < bound:
            raw = RawResult(raw.status, raw.values, raw.objective, bound, raw.solver)
        return self._accept(model, raw, known)

    def _only_plan(self, model: PlacementModel) -> Solution:
        """Nothing to decide: the one placement is optimal or breaks a constraint."""
        nothing = np.zeros(0)
        placement, codecs = self._plan(model, nothing)
        evaluation = evaluate(self.problem, placement, codecs)
        if evaluation.violations:
            return self._infeasible("no choice")
        return solution_of(
            self.problem,
            placement,
            status="optimal",
            solver="no choice",
            solve_s=time.perf_counter() - self.began,
            evaluation=evaluation,
        )

    def _relaxed(self, arrays: Arrays) -> RawResult:
        """A small relaxation takes milliseconds here; a large one must be stoppable."""
        left_s = self._left_s()
        if len(arrays.row_lower) <= _SMALL_ROWS:
            return run_highs(arrays, integer=False, time_limit_s=left_s, gap=0.0)
        try:
            return solve_guarded(arrays, integer=False, time_limit_s=left_s, gap=0.0)
        except OptimizerError:
            return RawResult("stopped", None, math.inf, -math.inf)

    def _best_known(self, known: Solution | None) -> Solution | None:
        """Worth the time only where the solver may need time, too."""
        if self.is_part:
            return known
        other = baselines(self.problem, names=_SLOWER, codecs=False).best()
        plans = [plan for plan in (known, other) if plan is not None]
        return min(plans, key=lambda plan: plan.objective or 0.0, default=None)

    def _whole(self, model: PlacementModel, arrays: Arrays, attempt: int) -> RawResult:
        """HiGHS; where it broke a constraint, CBC and a stricter HiGHS in turns."""
        if attempt % 2 == 1:
            return run_cbc(model.linear, time_limit_s=self._left_s(), gap=self.gap)
        # No plan is given to begin with: HiGHS 1.16 then sometimes hands that plan back as the
        # optimum whose objective it reports.
        try:
            return solve_guarded(
                arrays, time_limit_s=self._left_s(), gap=self.gap, strict=attempt > 0
            )
        except OptimizerError:
            return run_cbc(model.linear, time_limit_s=self._left_s(), gap=self.gap)

    def _second_opinion(self, model: PlacementModel, known: Solution | None) -> Solution:
        """HiGHS said infeasible; only with CBC's agreement is that passed on."""
        left_s = self._left_s()
        limit_s = None if left_s is None else max(left_s, _LEAST_CHECK_S)
        raw = run_cbc(model.linear, time_limit_s=limit_s, gap=self.gap)
        if raw.status == "infeasible":
            return self._nothing(known)
        return self._accept(model, raw, known)

    def _nothing(self, known: Solution | None) -> Solution:
        """Both solvers agree that there is no plan."""
        if known is None:
            return self._infeasible()
        raise OptimizerError(
            "HiGHS and CBC call a problem infeasible for which a plan is known; please report "
            "it with the problem's JSON."
        )

    def _accept(
        self, model: PlacementModel, raw: RawResult, known: Solution | None = None
    ) -> Solution:
        """The solver's plan, checked; or the best baseline when that is better."""
        bound = raw.bound / model.scale
        if raw.values is None:
            return self._fall_back(known, bound)
        plan = self._checked(model, raw.values, raw.objective / model.scale, bound, raw.solver)
        if known is None or known.objective is None or plan.objective is None:
            return plan
        if known.objective < plan.objective:
            lost = (plan.objective - known.objective) / plan.objective
            if raw.status == "optimal" and self.gap == 0.0 and lost > _RELATIVE_ERROR:
                raise OptimizerError(
                    f"{raw.solver} calls {plan.objective:.9g} optimal, but {known.solver} "
                    f"reaches {known.objective:.9g}."
                )
            return self._fall_back(known, bound)
        return plan

    def _checked(
        self,
        model: PlacementModel,
        values: npt.NDArray[np.float64],
        claimed: float,
        bound: float,
        solver: str,
    ) -> Solution:
        placement, codecs = self._plan(model, values)
        evaluation = evaluate(self.problem, placement, codecs)
        if evaluation.violations:
            raise _BrokenPlanError(values)
        objective = evaluation.objective
        room = _RELATIVE_ERROR * max(abs(objective), abs(claimed)) + 1e-6 / model.scale
        if objective > claimed + room or objective < bound - room:
            raise OptimizerError(
                f"A plan of {solver} costs {objective:.9g}, but the solver says {claimed:.9g} "
                f"(bound {bound:.9g})."
            )
        status, bound = self._judge(objective, bound)
        return solution_of(
            self.problem,
            placement,
            bound=bound,
            status=status,
            solver=solver,
            solve_s=time.perf_counter() - self.began,
            evaluation=evaluation,
        )

    def _plan(
        self, model: PlacementModel, values: npt.NDArray[np.float64]
    ) -> tuple[dict[str, str], dict[tuple[str, str, str], str]]:
        """Placement and codecs of a solution of the (perhaps reduced) model."""
        hosts = model.host_of_unit(values)
        if self.reduction is None:
            return model.instance.placement(hosts), model.chosen_codecs(values)
        return self.unreduced.placement(self.reduction.expand(hosts)), self.reduction.codecs

    def _judge(self, objective: float, bound: float) -> tuple[Status, float]:
        bound = max(bound, 0.0)  # no cost is negative
        difference = objective - bound
        if difference <= _PROVEN * abs(objective):
            return "optimal", objective
        return ("optimal" if difference <= self.gap * abs(objective) else "feasible"), bound

    def _fall_back(self, known: Solution | None, bound: float) -> Solution:
        seconds = time.perf_counter() - self.began
        if known is None or known.objective is None:
            proven = bound if math.isfinite(bound) else None
            return Solution(None, proven, None, "timeout", solver="highs", solve_s=seconds)
        status, bound = self._judge(known.objective, bound)
        return solution_of(
            self.problem,
            known.placement,
            codecs=known.codecs,
            bound=bound,
            status=status,
            solver=known.solver,
            solve_s=seconds,
        )

    def _explaining_s(self) -> float:
        left_s = self._left_s()
        return _EXPLAINING_S if left_s is None else max(left_s, _LEAST_EXPLAINING_S)

    def _infeasible(self, solver: str = "highs, cbc") -> Solution:
        why = Conflict((), "conflicting")
        if not self.is_part:
            why = explain_conflict(self.problem, time_limit_s=self._explaining_s())
        return Solution(
            None,
            None,
            None,
            "infeasible",
            solver=solver,
            solve_s=time.perf_counter() - self.began,
            conflicts=why.sentences,
            conflict_kind=why.kind,
        )
