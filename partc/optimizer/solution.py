"""The answer to a placement problem, with its certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from partc.errors import InfeasibleError
from partc.optimizer.evaluation import Evaluation, Transfer, evaluate
from partc.optimizer.problem import NO_CODEC, Problem

Status = Literal["optimal", "feasible", "infeasible", "timeout"]


@dataclass(frozen=True)
class Solution:
    """A plan and how good it is proven to be.

    Attributes:
        objective: seconds or joules; None without a plan.
        bound: no plan is better than this; None where nothing is proven.
        gap: (objective - bound) / objective; 0 when optimal, None where nothing is proven.
        status: "optimal" (proven within the gap asked for), "feasible" (a plan without such a
            proof), "infeasible" (two solvers agree), "timeout" (no plan was found in time).
        placement: op to host.
        transfers: every tensor that is moved, with its codec.
        loads: seconds per request of every host and link direction.
        solver: who found the plan.
        solve_s: wall time of modelling and solving.
        codecs: (tensor, from, to) to codec, for what does not travel as it is.
        evaluation: all that follows from the plan; None without one.
        simulated_latency_s: the latency when hosts and links work in parallel; see `simulate`.
        conflicts: for "infeasible", sentences: constraints that cannot hold together.
        conflict_kind: "smallest", "irreducible" or "conflicting"; see `Conflict`.
    """

    objective: float | None
    bound: float | None
    gap: float | None
    status: Status
    placement: dict[str, str] = field(default_factory=dict)
    transfers: tuple[Transfer, ...] = ()
    loads: dict[str, float] = field(default_factory=dict)
    solver: str = ""
    solve_s: float = 0.0
    codecs: dict[tuple[str, str, str], str] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    simulated_latency_s: float | None = None
    conflicts: tuple[str, ...] = ()
    conflict_kind: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The solution as JSON data."""
        data: dict[str, Any] = {
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "status": self.status,
            "placement": dict(self.placement),
            "transfers": [transfer.to_dict() for transfer in self.transfers],
            "loads": dict(self.loads),
            "solver": self.solver,
            "solve_s": self.solve_s,
        }
        if self.evaluation is not None:
            data |= {
                "latency_s": self.evaluation.latency_s,
                "simulated_latency_s": self.simulated_latency_s,
                "energy_j": dict(self.evaluation.energy_j),
                "memory_bytes": dict(self.evaluation.memory_bytes),
                "loss": self.evaluation.loss,
            }
        if self.status == "infeasible":
            data["conflicts"] = list(self.conflicts)
            data["conflicts_are"] = self.conflict_kind
        return data

    def require_plan(self) -> Solution:
        """This solution, if it has a plan.

        Raises:
            InfeasibleError: it has none; the sentence says which constraints conflict.
        """
        if self.why_no_plan:
            raise InfeasibleError(self.why_no_plan)
        return self

    @property
    def why_no_plan(self) -> str:
        """A sentence where there is no plan; empty where there is one."""
        if self.objective is not None:
            return ""
        if self.status == "infeasible":
            return f"No placement satisfies all constraints. {' '.join(self.conflicts)}".strip()
        return f"No placement was found within {self.solve_s:.1f} s; allow the solver more time."


def solution_of(
    problem: Problem,
    placement: Mapping[str, str],
    *,
    codecs: Mapping[tuple[str, str, str], str] | None = None,
    bound: float | None = None,
    status: Status = "feasible",
    solver: str,
    solve_s: float = 0.0,
    evaluation: Evaluation | None = None,
) -> Solution:
    """A solution from a plan, evaluated unless that was done."""
    if evaluation is None:
        evaluation = evaluate(problem, placement, codecs)
    objective = evaluation.objective
    if bound is not None and not math.isfinite(bound):
        bound = None
    if bound is not None:
        bound = min(bound, objective)
    if status == "optimal" and bound is None:
        bound = objective
    used = {(t.tensor, t.source, t.destination): t.codec for t in evaluation.transfers}
    return Solution(
        objective=objective,
        bound=bound,
        gap=relative_gap(objective, bound),
        status=status,
        placement=dict(placement),
        transfers=evaluation.transfers,
        loads=evaluation.loads,
        solver=solver,
        solve_s=solve_s,
        codecs={key: name for key, name in used.items() if name != NO_CODEC},
        evaluation=evaluation,
    )


def relative_gap(objective: float, bound: float | None) -> float | None:
    """(objective - bound) / objective; None where nothing is proven."""
    if bound is None:
        return None
    if objective <= bound:
        return 0.0
    return (objective - bound) / objective if objective > 0 else None
