"""Solves a horizontal problem: relaxation, integer program, second opinion, re-evaluation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from partc.errors import OptimizerError, UsageError
from partc.optimizer.cbc import run_cbc
from partc.optimizer.highs import RawResult, run_highs
from partc.optimizer.horizontal.conflicts import horizontal_conflicts
from partc.optimizer.horizontal.evaluation import evaluate_horizontal
from partc.optimizer.horizontal.model import HorizontalModel
from partc.optimizer.horizontal.problem import HorizontalProblem
from partc.optimizer.horizontal.rows import Floats, linear_model_of
from partc.optimizer.horizontal.simulation import simulate_horizontal
from partc.optimizer.horizontal.solution import HorizontalPlan, HorizontalSolution, TiledRange
from partc.optimizer.solution import relative_gap
from partc.optimizer.watchdog import solve_guarded

_TARGET_OBJECTIVE = 1e4  # what the optimum should be in the model's units
_SMALLEST_OBJECTIVE = 10.0  # below this, rounding shows and the model is built again
_PROVEN = 1e-6  # relative difference of objective and bound that counts as none
_TIE = 1e-9  # what tiles must win to be worth their trouble
_RELATIVE_ERROR = 1e-5  # of the solver's objective against the evaluator's
_LARGE_ROWS = 20_000
_LEAST_CHECK_S = 2.0
_EXPLAINING_S = 20.0


def solve_horizontal(
    problem: HorizontalProblem,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    must_tile: bool = False,
) -> HorizontalSolution:
    """The best plan and the proof of how good it is.

    Args:
        problem: what to place and tile.
        time_limit_s: wall time for the solvers; the best plan until then is returned.
        gap: relative gap at which a plan counts as optimal.
        must_tile: only plans that use at least one arc count.

    Raises:
        UsageError: a limit makes no sense.
        OptimizerError: a solver's plan does not evaluate to what the solver claims.
    """
    if time_limit_s is not None and not time_limit_s > 0:
        raise UsageError(f"The time limit must be above 0 s, but it is {time_limit_s}.")
    if not 0 <= gap < 1:
        raise UsageError(f"The gap must be at least 0 and below 1, but it is {gap}.")
    answer = _Solve(problem, time_limit_s, gap, must_tile).run()
    if answer.plan is None:
        return answer
    schedule = simulate_horizontal(problem, answer.plan)
    return replace(answer, simulated_latency_s=schedule.latency_s)


@dataclass
class _Solve:
    problem: HorizontalProblem
    time_limit_s: float | None
    gap: float
    must_tile: bool

    def run(self) -> HorizontalSolution:
        self.began = time.perf_counter()
        known = None if self.must_tile else self._best_single_host()
        scale = _TARGET_OBJECTIVE / (self._reference(known) or 1.0)
        while True:
            model = HorizontalModel(self.problem, scale, tiles=self.must_tile)
            answer = self._solve_model(model, known)
            objective = answer.objective
            if answer.status != "optimal" or not objective:
                return answer
            if objective * scale >= _SMALLEST_OBJECTIVE:
                return answer
            scale = _TARGET_OBJECTIVE / objective
            known = answer

    def _best_single_host(self) -> HorizontalSolution | None:
        best = None
        for host in self.problem.host_names:
            plan = HorizontalPlan({op.name: host for op in self.problem.ops})
            evaluation = evaluate_horizontal(self.problem, plan)
            if evaluation.violations or math.isinf(evaluation.objective):
                continue
            if best is None or evaluation.objective < (best.objective or 0.0):
                best = HorizontalSolution(
                    evaluation.objective,
                    None,
                    None,
                    "feasible",
                    plan,
                    evaluation,
                    solver=f"{host}-only",
                )
        return best

    def _reference(self, known: HorizontalSolution | None) -> float:
        if known is not None and known.objective:
            return known.objective
        return sum(min(op.cost_s.values(), default=0.0) for op in self.problem.ops)

    def _left_s(self) -> float | None:
        if self.time_limit_s is None:
            return None
        return max(0.0, self.time_limit_s - (time.perf_counter() - self.began))

    def _solve_model(
        self, model: HorizontalModel, known: HorizontalSolution | None
    ) -> HorizontalSolution:
        relaxed = self._relaxed(model)
        if relaxed.status == "infeasible":
            return self._second_opinion(model, known)
        if relaxed.status == "optimal" and relaxed.values is not None:
            if model.is_integral(relaxed.values):
                return replace(self._accept(model, relaxed, known), integral=True)
            bound = relaxed.objective
        else:
            bound = -math.inf
        try:
            raw = solve_guarded(model.arrays, time_limit_s=self._left_s(), gap=self.gap)
        except OptimizerError:
            linear = linear_model_of(model.arrays)
            raw = run_cbc(linear, time_limit_s=self._left_s(), gap=self.gap)
        if raw.status == "infeasible":
            return self._second_opinion(model, known)
        return self._accept(model, replace(raw, bound=max(raw.bound, bound)), known)

    def _relaxed(self, model: HorizontalModel) -> RawResult:
        """A small relaxation takes milliseconds here; a large one must be stoppable."""
        left_s = self._left_s()
        if len(model.arrays.row_lower) <= _LARGE_ROWS:
            return run_highs(model.arrays, integer=False, time_limit_s=left_s, gap=0.0)
        try:
            return solve_guarded(model.arrays, integer=False, time_limit_s=left_s, gap=0.0)
        except OptimizerError:
            return RawResult("stopped", None, math.inf, -math.inf)

    def _second_opinion(
        self, model: HorizontalModel, known: HorizontalSolution | None
    ) -> HorizontalSolution:
        """HiGHS said infeasible; only with CBC's agreement is that passed on."""
        left_s = self._left_s()
        limit_s = None if left_s is None else max(left_s, _LEAST_CHECK_S)
        raw = run_cbc(linear_model_of(model.arrays), time_limit_s=limit_s, gap=self.gap)
        if raw.status != "infeasible":
            return self._accept(model, raw, known)
        if known is not None:
            raise OptimizerError(
                "HiGHS and CBC call a problem infeasible for which a plan is known; please report "
                "it with the problem's JSON."
            )
        left_s = self._left_s()
        return HorizontalSolution(
            None,
            None,
            None,
            "infeasible",
            solver="highs, cbc",
            solve_s=time.perf_counter() - self.began,
            conflicts=horizontal_conflicts(
                self.problem,
                time_limit_s=_EXPLAINING_S if left_s is None else max(left_s, _LEAST_CHECK_S),
                must_tile=self.must_tile,
            ),
        )

    def _accept(
        self, model: HorizontalModel, raw: RawResult, known: HorizontalSolution | None
    ) -> HorizontalSolution:
        """The solver's plan, checked; or the best plan known when that is no worse."""
        bound = raw.bound / model.scale
        if raw.values is None:
            return self._fall_back(known, bound)
        plan = self._checked(model, raw.values, raw.objective / model.scale, bound, raw.solver)
        if known is None or known.objective is None or plan.objective is None:
            return plan
        if known.objective > plan.objective * (1 + _TIE):
            return plan
        # A plan may cost nothing: the energy of hosts that draw no power.
        lost = (plan.objective - known.objective) / plan.objective if plan.objective else 0.0
        if raw.status == "optimal" and self.gap == 0.0 and lost > _RELATIVE_ERROR:
            raise OptimizerError(
                f"{raw.solver} calls {plan.objective:.9g} optimal, but {known.solver} reaches "
                f"{known.objective:.9g}."
            )
        return self._fall_back(known, bound)

    def _checked(
        self, model: HorizontalModel, values: Floats, claimed: float, bound: float, solver: str
    ) -> HorizontalSolution:
        plan = HorizontalPlan(model.placement(values), self._tiles(model.entered(values)))
        evaluation = evaluate_horizontal(self.problem, plan)
        if evaluation.violations:
            raise OptimizerError(
                f"A plan of {solver} breaks a constraint: {evaluation.violations[0]}"
            )
        objective = evaluation.objective
        room = _RELATIVE_ERROR * max(abs(objective), abs(claimed)) + 1e-6 / model.scale
        if objective > claimed + room or objective < bound - room:
            raise OptimizerError(
                f"A plan of {solver} costs {objective:.9g}, but the solver says {claimed:.9g} "
                f"(bound {bound:.9g})."
            )
        found = HorizontalSolution(
            objective, None, None, "feasible", plan, evaluation, solver=solver
        )
        return self._judged(found, bound)

    def _tiles(self, entered: list[tuple[int, str]]) -> tuple[TiledRange, ...]:
        """The arcs in the order in which they run."""
        arcs = self.problem.arcs
        order = {op.name: number for number, op in enumerate(self.problem.vertical.ordered_ops)}
        producer_of = self.problem.vertical.producer_of
        tiles = [
            TiledRange(arcs[arc].entry, arcs[arc].exit, arcs[arc].tiling, source, arc)
            for arc, source in entered
        ]
        return tuple(sorted(tiles, key=lambda each: order[producer_of[each.exit].name]))

    def _judged(self, found: HorizontalSolution, bound: float) -> HorizontalSolution:
        """With what is proven about it."""
        objective = found.objective
        assert objective is not None
        seconds = time.perf_counter() - self.began
        if not math.isfinite(bound):
            return replace(found, bound=None, gap=None, status="feasible", solve_s=seconds)
        bound = min(max(bound, 0.0), objective)  # no cost is negative
        if objective - bound <= _PROVEN * objective:
            bound = objective
        gap = relative_gap(objective, bound)
        proven = objective - bound <= self.gap * objective
        return replace(
            found,
            bound=bound,
            gap=gap,
            status="optimal" if proven else "feasible",
            solve_s=seconds,
        )

    def _fall_back(self, known: HorizontalSolution | None, bound: float) -> HorizontalSolution:
        if known is not None:
            return self._judged(known, bound)
        return HorizontalSolution(
            None,
            bound if math.isfinite(bound) else None,
            None,
            "timeout",
            solver="highs",
            solve_s=time.perf_counter() - self.began,
        )
