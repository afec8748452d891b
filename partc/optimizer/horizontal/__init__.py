"""Ranges of ops tiled over several hosts: the problem as plain data, its optimum, the proof."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partc.optimizer.horizontal.evaluation import (
        HorizontalEvaluation,
        Stage,
        Work,
        evaluate_horizontal,
    )
    from partc.optimizer.horizontal.problem import Arc, Gather, HorizontalProblem, Tiling
    from partc.optimizer.horizontal.simulation import simulate_horizontal
    from partc.optimizer.horizontal.solution import (
        HorizontalPlan,
        HorizontalSolution,
        Message,
        TiledRange,
    )
    from partc.optimizer.horizontal.solving import solve_horizontal

_HOME = {
    "Arc": "problem",
    "Gather": "problem",
    "HorizontalProblem": "problem",
    "Tiling": "problem",
    "HorizontalEvaluation": "evaluation",
    "Stage": "evaluation",
    "Work": "evaluation",
    "evaluate_horizontal": "evaluation",
    "simulate_horizontal": "simulation",
    "HorizontalPlan": "solution",
    "HorizontalSolution": "solution",
    "Message": "solution",
    "TiledRange": "solution",
    "solve_horizontal": "solving",
}

__all__ = [
    "Arc",
    "Gather",
    "HorizontalEvaluation",
    "HorizontalPlan",
    "HorizontalProblem",
    "HorizontalSolution",
    "Message",
    "Stage",
    "TiledRange",
    "Tiling",
    "Work",
    "evaluate_horizontal",
    "simulate_horizontal",
    "solve_horizontal",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that the command line starts fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
