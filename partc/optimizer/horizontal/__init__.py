"""Ranges of ops tiled over several hosts: the problem as plain data, its optimum, the proof."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partc.optimizer.horizontal.breaking_even import (
        HorizontalBreakEven,
        horizontal_break_even,
        tiling_verdict,
        with_bandwidth,
    )
    from partc.optimizer.horizontal.evaluation import (
        HorizontalEvaluation,
        Stage,
        Work,
        evaluate_horizontal,
    )
    from partc.optimizer.horizontal.problem import Arc, Gather, HorizontalProblem, Tiling
    from partc.optimizer.horizontal.reading import any_problem_from_json
    from partc.optimizer.horizontal.shares import best_rows, candidate_shares, water_filling
    from partc.optimizer.horizontal.simulation import simulate_horizontal
    from partc.optimizer.horizontal.solution import (
        HorizontalPlan,
        HorizontalSolution,
        Message,
        TiledRange,
    )
    from partc.optimizer.horizontal.solving import solve_horizontal
    from partc.optimizer.horizontal.tables import arcs_from_tables, gathers_from_table

_HOME = {
    "Arc": "problem",
    "Gather": "problem",
    "HorizontalProblem": "problem",
    "Tiling": "problem",
    "HorizontalBreakEven": "breaking_even",
    "horizontal_break_even": "breaking_even",
    "tiling_verdict": "breaking_even",
    "with_bandwidth": "breaking_even",
    "HorizontalEvaluation": "evaluation",
    "Stage": "evaluation",
    "Work": "evaluation",
    "evaluate_horizontal": "evaluation",
    "any_problem_from_json": "reading",
    "best_rows": "shares",
    "candidate_shares": "shares",
    "water_filling": "shares",
    "simulate_horizontal": "simulation",
    "HorizontalPlan": "solution",
    "HorizontalSolution": "solution",
    "Message": "solution",
    "TiledRange": "solution",
    "solve_horizontal": "solving",
    "arcs_from_tables": "tables",
    "gathers_from_table": "tables",
}

__all__ = [
    "Arc",
    "Gather",
    "HorizontalBreakEven",
    "HorizontalEvaluation",
    "HorizontalPlan",
    "HorizontalProblem",
    "HorizontalSolution",
    "Message",
    "Stage",
    "TiledRange",
    "Tiling",
    "Work",
    "any_problem_from_json",
    "arcs_from_tables",
    "best_rows",
    "candidate_shares",
    "evaluate_horizontal",
    "gathers_from_table",
    "horizontal_break_even",
    "simulate_horizontal",
    "solve_horizontal",
    "tiling_verdict",
    "water_filling",
    "with_bandwidth",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that the command line starts fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
