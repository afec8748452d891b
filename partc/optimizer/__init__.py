"""The placement problem as plain data, its optimum, and the proof of it; knows no ONNX."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partc.optimizer.breaking_even import BreakEven, break_even
    from partc.optimizer.conditions import Conditions, CostVector, Point
    from partc.optimizer.conflicts import Conflict, conflicting_constraints, explain_conflict
    from partc.optimizer.cutting import minimum_cut
    from partc.optimizer.evaluation import Evaluation, Transfer, evaluate
    from partc.optimizer.pareto import ParetoFront, ParetoPoint, pareto_front
    from partc.optimizer.portfolios import Portfolio, PortfolioPlan, portfolio
    from partc.optimizer.problem import (
        Bus,
        Codec,
        Constraints,
        Host,
        Link,
        Op,
        Problem,
        Tensor,
        TensorCodec,
        Weight,
    )
    from partc.optimizer.simple_plans import Baselines, baselines
    from partc.optimizer.simulation import Simulation, simulate
    from partc.optimizer.solution import Solution
    from partc.optimizer.solving import solve

_HOME = {
    "BreakEven": "breaking_even",
    "break_even": "breaking_even",
    "Baselines": "simple_plans",
    "baselines": "simple_plans",
    "Evaluation": "evaluation",
    "Transfer": "evaluation",
    "evaluate": "evaluation",
    "minimum_cut": "cutting",
    "Bus": "problem",
    "Codec": "problem",
    "Constraints": "problem",
    "Host": "problem",
    "Link": "problem",
    "Op": "problem",
    "Problem": "problem",
    "Tensor": "problem",
    "TensorCodec": "problem",
    "Weight": "problem",
    "Solution": "solution",
    "solve": "solving",
    "Simulation": "simulation",
    "simulate": "simulation",
    "ParetoFront": "pareto",
    "ParetoPoint": "pareto",
    "pareto_front": "pareto",
    "Conflict": "conflicts",
    "conflicting_constraints": "conflicts",
    "explain_conflict": "conflicts",
    "Portfolio": "portfolios",
    "PortfolioPlan": "portfolios",
    "Conditions": "conditions",
    "CostVector": "conditions",
    "Point": "conditions",
    "portfolio": "portfolios",
}

__all__ = [
    "Baselines",
    "BreakEven",
    "Bus",
    "Codec",
    "Conditions",
    "Conflict",
    "Constraints",
    "CostVector",
    "Evaluation",
    "Host",
    "Link",
    "Op",
    "ParetoFront",
    "ParetoPoint",
    "Point",
    "Portfolio",
    "PortfolioPlan",
    "Problem",
    "Simulation",
    "Solution",
    "Tensor",
    "TensorCodec",
    "Transfer",
    "Weight",
    "baselines",
    "break_even",
    "conflicting_constraints",
    "evaluate",
    "explain_conflict",
    "minimum_cut",
    "pareto_front",
    "portfolio",
    "simulate",
    "solve",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that the command line starts fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
