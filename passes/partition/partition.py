"""partition: the provably best host for every block, and the simple strategies beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.errors import InfeasibleError, UsageError
from partc.ir.plan import Certificate, Plan, Strategy
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Baselines, Problem, Solution, baselines, minimum_cut, simulate
from partc.optimizer.cutting import why_not_a_cut
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.lower.schedule import root_host
from partc.passes.partition.bandwidth import judge, sweep
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.pareto import make_front, pareto_objectives
from partc.passes.partition.portfolio import make_portfolio, op_placement
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.solving import solve_with_losses
from partc.passes.partition.transfers import transfers_of
from partc.passes.tiling.planning.rescue import tiles_may_help, without_limits

OPTIMAL = "optimal"


@dataclass(frozen=True)
class Partition(Pass):
    """Solves the placement problem and keeps the proof.

    Attributes:
        objective: what is minimised.
        gap: relative gap at which a plan counts as optimal.
        monotone: what left the device does not come back, except as an answer.
        time_limit: seconds for the solver; the best plan until then is taken.
        pareto: two objectives, as ``latency/energy``, whose front is to be found beside the plan.
    """

    name: ClassVar[str] = "partition"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("blocked", "costed")
    ensures: ClassVar[tuple[str, ...]] = ("placed",)

    objective: Literal["latency", "throughput", "energy"] = "latency"
    gap: float = 0.0
    monotone: bool = False
    time_limit: float | None = None
    pareto: str = ""

    def __post_init__(self) -> None:
        """Refuse limits that make no sense before anything is measured."""
        if not 0 <= self.gap < 1:
            raise UsageError(f"partition: the gap must be at least 0 and below 1, not {self.gap}.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise UsageError(
                f"partition: the time limit must be above 0 s, but it is {self.time_limit}."
            )

    def run(self, program: Program, context: Context) -> PassResult:
        """Solve, compare with the baselines, and say whether splitting pays."""
        compared = pareto_objectives(self.pareto) if self.pareto else None
        context.progress("solving", None)
        topology = asked = self._topology(context)
        losses = None
        if program.codecs is not None:
            losses = LossMeter(program, context.seed, context.progress)
        unmet = ""
        try:
            problem, solution = self._solve(program, topology, losses)
        except InfeasibleError as error:
            if not tiles_may_help(program, topology, self.objective):
                raise
            unmet = error.message
            topology = without_limits(topology)
            problem, solution = self._solve(program, topology, losses)
        problem, simple = self._simple_plans(program, topology, losses, problem)
        of = topology.constraints.energy_hosts
        strategies = [_strategy(name, plan, of) for name, plan in simple.items()]
        strategies.append(_strategy(OPTIMAL, solution, of))
        plan = Plan(
            placement=op_placement(program, solution.placement),
            transfers=transfers_of(solution.transfers, topology, root_host(program, topology)),
            strategies=tuple(strategies),
            certificate=self._certificate(problem, solution),
            verdict=None,
            sweep=(),
            problem=problem.to_dict(),
            unmet=unmet,
        )
        if unmet:
            wanted = placement_problem(program, asked, objective=self.objective, losses=losses)
            plan = replace(plan, problem=wanted.to_dict())
        if len(topology.hosts) == 2:
            plan = replace(
                plan,
                verdict=judge(program, topology, plan, losses, self.objective),
                sweep=sweep(program, topology, plan, losses),
            )
        if compared is not None:
            context.progress("finding the Pareto front", None)
            front = make_front(program, topology, compared, losses, self.time_limit)
            plan = replace(plan, pareto=front)
        portfolio = None
        if topology.conditions is not None:
            context.progress("finding the plans for changing conditions", None)
            portfolio = make_portfolio(program, topology, self.objective, losses)
        certificate = plan.certificate
        said = (
            f"{certificate.status}: {certificate.predicted_s * 1e3:.2f} ms, "
            f"gap {certificate.gap:.2g}, {certificate.solver}, {certificate.solve_s:.2f} s"
        )
        if unmet:
            said = f"no plan without tiles keeps all constraints; without limits {said}"
        return PassResult(replace(program, plan=plan, portfolio=portfolio), True, (said,))

    def _solve(
        self, program: Program, topology: Topology, losses: LossMeter | None
    ) -> tuple[Problem, Solution]:
        return solve_with_losses(
            program,
            topology,
            objective=self.objective,
            losses=losses,
            time_limit_s=self.time_limit,
            gap=self.gap,
        )

    def _simple_plans(
        self, program: Program, topology: Topology, losses: LossMeter | None, problem: Problem
    ) -> tuple[Problem, Baselines]:
        """The simple strategies with their best codecs, whose losses are measured, too."""
        while True:
            simple = baselines(problem)
            used = [(t.tensor, t.codec) for plan in simple.values() for t in plan.transfers]
            if losses is None or not losses.learn(used):
                return problem, simple
            problem = placement_problem(program, topology, objective=self.objective, losses=losses)

    def _topology(self, context: Context) -> Topology:
        topology = context.topology
        if not self.monotone:
            return topology
        constraints = topology.constraints.model_copy(update={"monotone": True})
        return topology.model_copy(update={"constraints": constraints})

    def _certificate(self, problem: Problem, solution: Solution) -> Certificate:
        assert solution.objective is not None and solution.evaluation is not None
        flow_s = minimum_cut(problem).bound if why_not_a_cut(problem) is None else None
        latency_s = solution.evaluation.latency_s
        in_joules = self.objective == "energy"
        return Certificate(
            objective=self.objective,
            predicted_s=latency_s if in_joules else solution.objective,
            bound_s=0.0 if in_joules else solution.bound or 0.0,
            gap=1.0 if solution.gap is None else solution.gap,
            status=solution.status,
            solver=solution.solver,
            solve_s=solution.solve_s,
            maximum_flow_s=flow_s,
            latency_s=latency_s,
            simulated_s=simulate(problem, solution.placement, solution.codecs).latency_s,
            predicted_j=solution.objective if in_joules else None,
            bound_j=(solution.bound or 0.0) if in_joules else None,
        )


def _strategy(name: str, plan: Solution, energy_hosts: tuple[str, ...]) -> Strategy:
    assert plan.evaluation is not None
    transfer_s = sum(t.seconds for t in plan.transfers)
    return Strategy(
        name=name,
        predicted_s=plan.evaluation.latency_s,
        bytes_sent=round(sum(t.bytes for t in plan.transfers)),
        compute_s=dict(plan.evaluation.compute_s),
        transfer_s=transfer_s,
        placement=dict(plan.placement),
        period_s=plan.evaluation.bottleneck_s,
        energy_j=sum(
            joules
            for host, joules in plan.evaluation.energy_j.items()
            if not energy_hosts or host in energy_hosts
        ),
    )
