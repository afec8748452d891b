"""HiGHS on arrays, in this process; the worker runs the same function in a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from partc.optimizer.linear import Arrays

# Rules 15 (probing) and 16 (enumeration) make HiGHS call feasible placements infeasible, and make
# cut models ten times slower.
_PRESOLVE_RULES_OFF = 98304
_SEED = 1
_STRICT = 1e-9


@dataclass(frozen=True)
class RawResult:
    """What a solver said, in the model's own units.

    `status` is "optimal" (within the gap asked for), "infeasible", or "stopped".
    """

    status: str
    values: npt.NDArray[np.float64] | None
    objective: float
    bound: float
    solver: str = field(default="highs")


def run_highs(
    arrays: Arrays,
    *,
    integer: bool,
    time_limit_s: float | None,
    gap: float,
    strict: bool = False,
    on_progress: Callable[[npt.NDArray[np.float64] | None, float, float], None] | None = None,
) -> RawResult:
    """Solve the model, or its relaxation.

    Args:
        arrays: the model.
        integer: False solves the linear relaxation.
        time_limit_s: asked of HiGHS, which may overrun it.
        gap: relative gap at which a proof is good enough.
        strict: allow a thousandth of the usual rounding in rows and whole numbers.
        on_progress: called with each better plan (or None), its objective and the bound.
    """
    import highspy

    with _banner_hidden():
        highs = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", _SEED),
        ("presolve_rule_off", _PRESOLVE_RULES_OFF),
        ("mip_rel_gap", gap),
        ("mip_abs_gap", 0.0),
    ):
        highs.setOptionValue(option, value)
    if strict:
        for option in ("mip_feasibility_tolerance", "primal_feasibility_tolerance"):
            highs.setOptionValue(option, _STRICT)
    if time_limit_s is not None:
        highs.setOptionValue("time_limit", max(time_limit_s, 0.01))
    highs.passModel(_highs_model(highspy, arrays, integer))
    if integer and on_progress is not None:
        _report_progress(highspy, highs, on_progress)
    highs.run()
    return _result(highspy, highs, integer)


@contextlib.contextmanager
def _banner_hidden() -> Iterator[None]:
    """HiGHS greets on standard output before it can be told not to; callers print JSON there."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _highs_model(highspy: Any, arrays: Arrays, integer: bool) -> Any:
    model = highspy.HighsLp()
    model.num_col_ = len(arrays.cost)
    model.num_row_ = len(arrays.row_lower)
    model.col_cost_ = arrays.cost
    model.col_lower_ = arrays.lower
    model.col_upper_ = arrays.upper
    model.row_lower_ = arrays.row_lower
    model.row_upper_ = arrays.row_upper
    model.offset_ = arrays.constant
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.num_col_ = len(arrays.cost)
    model.a_matrix_.num_row_ = len(arrays.row_lower)
    model.a_matrix_.start_ = arrays.starts
    model.a_matrix_.index_ = arrays.columns
    model.a_matrix_.value_ = arrays.values
    if integer:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[int(whole)] for whole in arrays.integer]
    return model


def _report_progress(
    highspy: Any,
    highs: Any,
    on_progress: Callable[[npt.NDArray[np.float64] | None, float, float], None],
) -> None:
    def better_plan(event: Any) -> None:
        values = np.array(event.data_out.mip_solution)
        out = event.data_out
        on_progress(values, out.objective_function_value, out.mip_dual_bound)

    def logging(event: Any) -> None:
        on_progress(None, event.data_out.mip_primal_bound, event.data_out.mip_dual_bound)

    highs.cbMipImprovingSolution.subscribe(better_plan)
    highs.cbMipLogging.subscribe(logging)


def _result(highspy: Any, highs: Any, integer: bool) -> RawResult:
    status = highs.getModelStatus()
    info = highs.getInfo()
    has_values = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = np.array(highs.getSolution().col_value) if has_values else None
    objective = info.objective_function_value if has_values else float("inf")
    kinds = highspy.HighsModelStatus
    if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible):
        return RawResult("infeasible", None, float("inf"), float("-inf"))
    if integer:
        bound = info.mip_dual_bound
    else:
        bound = objective if status == kinds.kOptimal else float("-inf")
    if status == kinds.kOptimal:
        return RawResult("optimal", values, objective, min(bound, objective))
    return RawResult("stopped", values, objective, bound)
