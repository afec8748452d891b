"""refine-costs: solve, measure what was chosen, correct, and solve again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.errors import InfeasibleError
from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.ir.refinement import Refinement, RefinementRound
from partc.ir.segment import Segment
from partc.optimizer import Problem, Solution
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.lower.schedule import make_calls
from partc.passes.lower.segment_models import SegmentMaker
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.portfolio import op_placement
from partc.passes.partition.solving import solve_with_losses
from partc.passes.refine.corrections import blocks_s, corrections, merged
from partc.passes.refine.forecast import forecast
from partc.passes.refine.segment_meter import SegmentMeter
from partc.passes.tiling.planning.rescue import tiles_may_help, without_limits
from partc.targets.protocol import Sampling

_DRIFT_WORTH_SAYING = 0.15
_MOST_ROUNDS = 20
_LEAST_BUDGET_S = 1.0


@dataclass(frozen=True)
class RefineCosts(Pass):
    """Measures the segments of the plan that the costs call best, and corrects the costs by them.

    It goes on until the best plan is one that was measured and no other is predicted to beat it,
    nor to come within ``margin`` of it unmeasured.

    Attributes:
        objective: what the plan is chosen for.
        budget_s: seconds after which no further plan is measured; 0 measures none.
        margin: plans that are predicted to be worse by less than this share are measured too.
        repeats: runs of each segment.
        pause_ms: idle time before each run, as for the costs of blocks.
        time_limit: seconds for one solve.
    """

    name: ClassVar[str] = "refine-costs"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("blocked", "costed")
    ensures: ClassVar[tuple[str, ...]] = ("costed",)

    objective: Literal["latency", "throughput", "energy"] = "latency"
    budget_s: float = 6.0
    margin: float = 0.03
    repeats: int = 15
    pause_ms: float = 50.0
    time_limit: float | None = None

    def run(self, program: Program, context: Context) -> PassResult:
        """Refine; without a budget, or with one host alone, nothing is measured."""
        if self.budget_s <= 0 or len(context.topology.hosts) < 2:
            return PassResult(program, False)
        try:
            return _Loop(self, program, context).run()
        except InfeasibleError:
            if not tiles_may_help(program, context.topology, self.objective):
                raise
            relaxed = replace(context, topology=without_limits(context.topology))
            return _Loop(self, program, relaxed).run()


class _Loop:
    def __init__(self, options: RefineCosts, program: Program, context: Context) -> None:
        self.options = options
        self.program = program
        self.context = context
        self.losses = LossMeter(program, context.seed, context.progress) if program.codecs else None
        self.maker = SegmentMaker(program)
        sampling = Sampling(options.repeats, options.budget_s, options.pause_ms * 1e-3)
        self.meter = SegmentMeter(program, context, sampling)
        self.began_s = time.perf_counter()
        self.rounds: list[RefinementRound] = []
        self.tried: dict[tuple[str, ...], float] = {}
        self.segments: dict[tuple[str, tuple[str, ...]], Cost] = {}
        self.drift = 1.0

    def run(self) -> PassResult:
        outcome: Literal["settled", "budget", "unmeasured"] = "budget"
        while len(self.rounds) < _MOST_ROUNDS:
            problem, chosen = self._solve(self.program)
            if self._known(chosen):
                chosen = self._runner_up(problem, chosen)
                if self._known(chosen) or not self._might_win(chosen):
                    outcome = "settled"
                    break
            if self.rounds and self._left_s() <= 0:
                break
            self.context.progress(f"measuring segments, plan {len(self.rounds) + 1}", None)
            if not self._measure(problem, chosen):
                outcome = "unmeasured"
                break
        return self._result(outcome)

    def _solve(self, program: Program) -> tuple[Problem, Solution]:
        return solve_with_losses(
            program,
            self.context.topology,
            objective=self.options.objective,
            losses=self.losses,
            time_limit_s=self.options.time_limit,
        )

    def _runner_up(self, problem: Problem, chosen: Solution) -> Solution:
        """The best plan when what the chosen one sends costs a little more on arrival."""
        assert chosen.objective is not None
        if self.options.objective != "latency" or not chosen.transfers:
            return chosen
        more_s = self.options.margin * chosen.objective / len(chosen.transfers)
        known = {tensor.name: tensor for tensor in problem.tensors}
        for moved in chosen.transfers:
            tensor = known[moved.tensor]
            extra_s = dict(tensor.extra_s)
            extra_s[moved.destination] = extra_s.get(moved.destination, 0.0) + more_s
            known[moved.tensor] = tensor.model_copy(update={"extra_s": extra_s})
        from partc.optimizer import solve

        changed = problem.changed(tensors=tuple(known.values()))
        found = solve(changed, time_limit_s=self.options.time_limit)
        return found if found.evaluation is not None else chosen

    def _might_win(self, plan: Solution) -> bool:
        assert plan.objective is not None
        return plan.objective < self._best_s() * (1 + self.options.margin)

    def _known(self, plan: Solution) -> bool:
        return _key(plan) in self.tried

    def _measure(self, problem: Problem, plan: Solution) -> bool:
        """Measure a plan's segments and correct the costs; whether anything was learnt."""
        assert self.program.costs is not None and plan.evaluation is not None
        segments = self.maker.segments(op_placement(self.program, plan.placement))
        structure = [replace(segment, model=None) for segment in segments]
        calls = make_calls(self.program, structure, self.context.topology)
        times = self.meter.measure(segments, max(self._left_s(), _LEAST_BUDGET_S))
        self.drift = times.drift
        self.segments.update(times.costs)
        if not times.costs:
            return False
        expected = {segment.id: self._expected_s(segment) for segment in segments}
        measured = {
            segment.id: times.costs[segment.host, segment.ops]
            for segment in segments
            if (segment.host, segment.ops) in times.costs
        }
        seconds = expected | {
            name: _believed_s(cost, expected[name]) for name, cost in measured.items()
        }
        found = forecast(
            problem,
            self.program,
            self.context.topology,
            segments,
            calls,
            seconds,
            plan.codecs,
        )
        self.rounds.append(
            RefinementRound(
                placement=dict(plan.placement),
                predicted_s=plan.evaluation.latency_s,
                measured_s=found.latency_s,
                segments=len(segments),
            )
        )
        believed = {name: seconds[name] for name in measured}
        new = corrections(self.program, self.context.topology, segments, found, believed)
        costs = self.program.costs
        costs = replace(costs, corrections=merged(costs.corrections, new))
        self.program = replace(self.program, costs=costs)
        self.tried[_key(plan)] = found.latency_s
        return True

    def _expected_s(self, segment: Segment) -> float:
        assert self.program.costs is not None
        fixed_s = self.program.costs.segment_fixed_s[segment.host]
        return blocks_s(self.program, segment) + fixed_s

    def _left_s(self) -> float:
        return self.options.budget_s - (time.perf_counter() - self.began_s)

    def _result(self, outcome: Literal["settled", "budget", "unmeasured"]) -> PassResult:
        assert self.program.costs is not None
        spent_s = time.perf_counter() - self.began_s
        costs = replace(
            self.program.costs,
            segments=self.segments,
            refinement=Refinement(tuple(self.rounds), outcome, spent_s, self.drift),
        )
        notices = (*self.program.notices, *dict.fromkeys(self.meter.failures))
        if abs(self.drift - 1) > _DRIFT_WORTH_SAYING:
            slower = "slower" if self.drift > 1 else "faster"
            notices = (
                *notices,
                f"this machine is {100 * abs(self.drift - 1):.0f} % {slower} now than when its "
                "costs were measured; predictions are for then (partc profile --fresh measures "
                "anew)",
            )
        said = f"{len(self.rounds)} plans measured, {outcome}" + (
            f", best {self._best_s() * 1e3:.2f} ms" if self.tried else ""
        )
        program = replace(self.program, costs=costs, notices=notices)
        return PassResult(program, True, (said,))

    def _best_s(self) -> float:
        return min(self.tried.values())


def _believed_s(measured: Cost, expected_s: float) -> float:
    """The measured median, moved towards what was expected by as much as it may be off."""
    difference_s = measured.median_s - expected_s
    sure_s = max(0.0, abs(difference_s) - measured.interval_s)
    return expected_s + math.copysign(sure_s, difference_s)


def _key(plan: Solution) -> tuple[str, ...]:
    placement: Mapping[str, str] = plan.placement
    codecs = (f"{'>'.join(key)}={codec}" for key, codec in plan.codecs.items())
    return (*(f"{op}@{host}" for op, host in sorted(placement.items())), *sorted(codecs))
