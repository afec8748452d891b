"""Plans of horizontal problems, and the answer with its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from partc.errors import InfeasibleError
from partc.optimizer.solution import Status

if TYPE_CHECKING:
    from partc.optimizer.horizontal.evaluation import HorizontalEvaluation


@dataclass(frozen=True)
class TiledRange:
    """One arc of a plan.

    Attributes:
        entry, exit, tiling: as in the problem's arc.
        source: host on which the entry is whole when the arc begins, or the tiling in which it is.
        arc: position of the arc in the problem's `arcs`.
    """

    entry: str
    exit: str
    tiling: str
    source: str
    arc: int

    def to_dict(self) -> dict[str, Any]:
        """The range as JSON data."""
        return {
            "entry": self.entry,
            "exit": self.exit,
            "tiling": self.tiling,
            "source": self.source,
            "arc": self.arc,
        }


@dataclass(frozen=True)
class HorizontalPlan:
    """Where everything runs.

    Attributes:
        placement: op to host, of the ops that run whole.
        tiles: the arcs that run the others.
    """

    placement: Mapping[str, str]
    tiles: tuple[TiledRange, ...] = ()


@dataclass(frozen=True)
class Message:
    """One message between two hosts.

    Attributes:
        tensor: what it carries all or a part of.
        source, destination: hosts.
        bytes: its size.
        kind: "whole", "scatter" (of a whole tensor to tiles), "halo" (between tiles), or "gather"
            (of tiles to a host).
        seconds: on its whole way, if it is alone there.
    """

    tensor: str
    source: str
    destination: str
    bytes: float
    kind: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The message as JSON data."""
        return {
            "tensor": self.tensor,
            "from": self.source,
            "to": self.destination,
            "bytes": self.bytes,
            "kind": self.kind,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class HorizontalSolution:
    """A plan and how good it is proven to be.

    Attributes:
        objective: seconds or joules; None without a plan.
        bound: no plan is better than this; None where nothing is proven.
        gap: (objective - bound) / objective; 0 when optimal, None where nothing is proven.
        status: "optimal", "feasible", "infeasible" (two solvers agree), or "timeout".
        plan: None without one.
        evaluation: all that follows from the plan.
        solver: who found it.
        solve_s: wall time of modelling and solving.
        integral: whether the linear relaxation was the answer.
        simulated_latency_s: the latency when hosts and links work in parallel.
        conflicts: for "infeasible", sentences: constraints that cannot hold together.
    """

    objective: float | None
    bound: float | None
    gap: float | None
    status: Status
    plan: HorizontalPlan | None = None
    evaluation: HorizontalEvaluation | None = None
    solver: str = ""
    solve_s: float = 0.0
    integral: bool = False
    simulated_latency_s: float | None = None
    conflicts: tuple[str, ...] = field(default=())

    @property
    def placement(self) -> dict[str, str]:
        """Op to host, of the ops that run whole; empty without a plan."""
        return {} if self.plan is None else dict(self.plan.placement)

    @property
    def tiles(self) -> tuple[TiledRange, ...]:
        """The arcs that are used."""
        return () if self.plan is None else self.plan.tiles

    def to_dict(self) -> dict[str, Any]:
        """The solution as JSON data."""
        data: dict[str, Any] = {
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "status": self.status,
            "placement": self.placement,
            "tiles": [tiles.to_dict() for tiles in self.tiles],
            "solver": self.solver,
            "solve_s": self.solve_s,
        }
        if self.evaluation is not None:
            data |= {
                "transfers": [message.to_dict() for message in self.evaluation.messages],
                "loads": dict(self.evaluation.loads),
                "latency_s": self.evaluation.latency_s,
                "simulated_latency_s": self.simulated_latency_s,
                "energy_j": dict(self.evaluation.energy_j),
                "memory_bytes": dict(self.evaluation.memory_bytes),
            }
        if self.status == "infeasible":
            data["conflicts"] = list(self.conflicts)
        return data

    def require_plan(self) -> HorizontalSolution:
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
            return f"No plan satisfies all constraints. {' '.join(self.conflicts)}".strip()
        return f"No plan was found within {self.solve_s:.1f} s; allow the solver more time."
