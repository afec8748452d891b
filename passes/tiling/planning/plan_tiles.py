"""plan-tiles: which block sequences several hosts compute side by side, where that is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.errors import InfeasibleError, PartcError, PassError, TargetError
from partc.ir.plan import Verdict
from partc.ir.program import Program
from partc.optimizer import Problem
from partc.optimizer.horizontal import (
    HorizontalBreakEven,
    HorizontalProblem,
    HorizontalSolution,
    horizontal_break_even,
    solve_horizontal,
    with_bandwidth,
)
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.lower.schedule import make_calls, root_host
from partc.passes.lower.segment_models import SegmentMaker
from partc.passes.partition.problem import placement_problem
from partc.passes.refine.corrections import blocks_s
from partc.passes.refine.forecast import forecast
from partc.passes.refine.segment_meter import SegmentMeter
from partc.passes.tiling.branches import branchings
from partc.passes.tiling.planning.arcs import (
    Candidate,
    TilingProblem,
    candidates_of,
    tiling_problem,
)
from partc.passes.tiling.planning.branch_arcs import BranchCandidate, branch_candidates
from partc.passes.tiling.planning.deciding import (
    Tried,
    pays,
    plan_with_tiles,
    rescue_verdict,
    verdict_of,
)
from partc.passes.tiling.planning.exchanges import are_priced_here, with_exchanges
from partc.passes.tiling.planning.hosts import Sharing, groups_of_hosts, sharings
from partc.passes.tiling.planning.rescue import why_no_tiles
from partc.passes.tiling.planning.tile_costs import TileCosts, measured_points
from partc.passes.tiling.ranges import TileableRange, tileable_groups
from partc.passes.tiling.tile import Tile
from partc.targets.protocol import Sampling

_EVEN = 0.02  # shares that differ by less count as even
_LEAST_SHARE_OF_WORK = 0.05
_MOST_RANGES = 3
_AXES = (2, 3, 1, 0, 4, 5)  # rows and columns of an image before its channels


@dataclass(frozen=True)
class PlanTiles(Pass):
    """Solves the placement problem again with ranges that may be tiled over several hosts.

    One integer program decides both where blocks run whole and what is tiled, over which hosts
    and in which shares. Tiles of the chosen plan are then measured as segments; where they take
    longer than was thought, the problem is solved again. The plan of `partition` stays where it
    is at least as good.

    Attributes:
        use: as ``[tiles] use`` of the topology, which this overrides unless it is ``auto``.
        rounds: how often tiles of a chosen plan are measured.
        budget_s: seconds for one round.
        pause_ms: idle time before each run.
        time_limit: seconds for one solve.
    """

    name: ClassVar[str] = "plan-tiles"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("blocked", "costed", "placed")
    ensures: ClassVar[tuple[str, ...]] = ("placed",)

    use: Literal["auto", "always", "never"] = "auto"
    rounds: int = 2
    budget_s: float = 6.0
    pause_ms: float = 50.0
    time_limit: float | None = 60.0

    def run(self, program: Program, context: Context) -> PassResult:
        """Decide; without hosts that could share, nothing is done.

        Raises:
            PassError: tiles are asked for, and the model or the topology has no place for them.
            InfeasibleError: no plan keeps all constraints, with tiles or without.
            TopologyError: ``[tiles]`` names hosts that cannot reach each other.
        """
        unmet = program.plan.unmet if program.plan is not None else ""
        if not unmet:
            return self._planned(program, context)
        try:
            done = self._planned(program, context)
        except (InfeasibleError, PassError) as error:
            why = "" if isinstance(error, InfeasibleError) else f" ({error.message})"
            raise InfeasibleError(f"{unmet} Nor does any plan with tiles{why}.") from error
        assert done.program.plan is not None
        if not done.program.plan.tiling:
            raise InfeasibleError(f"{unmet} Nor does any plan with tiles.")
        return done

    def _planned(self, program: Program, context: Context) -> PassResult:
        use = self.use if self.use != "auto" else context.topology.tiles.use
        if use == "never" or program.plan is None or program.costs is None:
            return PassResult(program, False)
        root = root_host(program, context.topology)
        groups = groups_of_hosts(context.topology, root)
        if not groups:
            if use == "always":
                raise PassError(
                    "tiles need two servers that are joined with each other; add them to the "
                    "topology, or name hosts in [tiles] hosts",
                    pass_name=self.name,
                )
            return PassResult(program, False)
        if why := why_no_tiles(context.topology, program.plan.certificate.objective):
            if use == "always":
                raise PassError(f"tiles cannot be planned with {why}", pass_name=self.name)
            return PassResult(program, False, (f"tiles are not planned with {why}",))
        must_tile = use == "always" or bool(program.plan.unmet)
        return _Planner(self, program, context, groups, must_tile).run()


class _Planner:
    def __init__(
        self,
        options: PlanTiles,
        program: Program,
        context: Context,
        groups: tuple[tuple[str, ...], ...],
        must_tile: bool,
    ) -> None:
        self.options = options
        self.program = program
        self.context = context
        self.groups = groups
        self.must_tile = must_tile
        self.said: list[str] = []

    def run(self) -> PassResult:
        shared = self._shared_branches()
        ranges = self._ranges(bool(shared))
        if not ranges and not shared:
            return PassResult(self.program, False, tuple(self.said))
        self.context.progress("planning tiles", None)
        candidates: tuple[Candidate | BranchCandidate, ...] = (
            *candidates_of(ranges, self._sharings(ranges)),
            *shared,
        )
        placement = self._placement()
        costs = TileCosts(self.program)
        made = tiling_problem(placement, candidates, costs)
        if not made.problem.arcs:
            self._refuse("no range has enough rows for the hosts that could share it")
            return PassResult(self.program, False, tuple(self.said))
        solution = self._solve(made.problem)
        if solution.tiles:  # even if tiles cost no more than their share
            self._measure_exchanges()
            placement = self._placement()
            costs = self._measured(TileCosts(self.program), ranges)
            made = tiling_problem(placement, candidates, costs)
            solution = self._solve(made.problem)
        tried = self._try(made, solution, placement, candidates, costs)
        return self._decide(made, tried)

    def _placement(self) -> Problem:
        """The problem without tiles; tiles travel as they are."""
        problem = placement_problem(self.program, self.context.topology).without_codecs()
        return with_exchanges(problem, self.program, self.context.topology, self.groups)

    def _measure_exchanges(self) -> None:
        """What hosts send each other at work costs less than what wakes them, or more."""
        assert self.program.costs is not None
        measured = self.context.exchange_cost
        if measured is None or not are_priced_here(self.context.topology, self.groups):
            return
        message = self.program.costs.message
        message = replace(message, exchange_fixed_s=measured(message.s_per_byte))
        self.program = replace(self.program, costs=replace(self.program.costs, message=message))

    def _shared_branches(self) -> tuple[BranchCandidate, ...]:
        if self.context.topology.tiles.shares is not None:
            return ()  # shares are of rows
        return branch_candidates(self.program, branchings(self.program), self.groups)

    def _ranges(self, has_branches: bool) -> tuple[TileableRange, ...]:
        found = tileable_groups(self.program)
        if not found.ranges:
            if has_branches:
                return ()
            if self.must_tile:
                found.require(self.program.name)
            why = found.closed[0].why if found.closed else "no tensor separates its blocks"
            self.said.append(f"nothing can be tiled: {why}")
            return ()
        assert self.program.costs is not None
        seconds = {
            block: max(cost.median_s for cost in row.values())
            for block, row in self.program.costs.costs.items()
            if row
        }
        total_s = sum(seconds.values())
        limited = any(h.memory_mib is not None for h in self.context.topology.hosts.values())
        kept: list[TileableRange] = []
        taken: set[str] = set()
        for each in sorted(found.ranges, key=lambda each: _AXES.index(each.axes[-1])):
            own_s = sum(seconds.get(block, 0.0) for block in each.blocks)
            # Channels need all of the entry, and every weight only in part: worth it for memory.
            fresh = taken.isdisjoint(each.blocks) or (limited and each.axes[-1] == 1)
            if fresh and own_s >= _LEAST_SHARE_OF_WORK * total_s:
                kept.append(each)
                taken.update(each.blocks)
        if not kept and not has_branches:
            self._refuse("what can be tiled is too small a part of the model")
        return tuple(kept[:_MOST_RANGES])

    def _sharings(self, ranges: Sequence[TileableRange]) -> tuple[Sharing, ...]:
        assert self.program.costs is not None
        rows = max((max(each.rows) for each in ranges), default=0)
        topology, whole_s = self.context.topology, self.program.costs.whole_s
        return sharings(topology, self.groups, whole_s, rows)

    def _solve(
        self, problem: HorizontalProblem, must_tile: bool | None = None
    ) -> HorizontalSolution:
        must_tile = self.must_tile if must_tile is None else must_tile
        return solve_horizontal(
            problem, time_limit_s=self.options.time_limit, must_tile=must_tile
        ).require_plan()

    def _measured(self, costs: TileCosts, ranges: Sequence[TileableRange]) -> TileCosts:
        points: dict[str, dict[str, tuple[float, float]]] = {}
        hosts = max(self.groups, key=len)
        self.context.progress("measuring tiles", None)
        for each in ranges:
            if min(each.rows) < len(hosts):
                continue
            try:
                found = measured_points(self.program, self.context, each, hosts)
            except (PassError, TargetError) as error:
                self.said.append(f"tiles are estimated from whole blocks: {error}")
                continue
            for host, blocks in found.items():
                points.setdefault(host, {}).update(blocks)
        return replace(costs, points=points)

    def _try(
        self,
        made: TilingProblem,
        solution: HorizontalSolution,
        placement: Problem,
        candidates: Sequence[Candidate | BranchCandidate],
        costs: TileCosts,
    ) -> Tried | None:
        """Measure the chosen tiles; where they cost more than was thought, choose again."""
        best: Tried | None = None
        for round_ in range(max(1, self.options.rounds)):
            if not solution.tiles:
                break
            tried = self._lowered(made, solution, round_)
            if best is None or tried.forecast.simulated_s < best.forecast.simulated_s:
                best = tried
            factors = self._factors(made, solution, tried, costs)
            if factors == costs.factors:
                break
            costs = replace(costs, factors=factors)
            made = tiling_problem(placement, candidates, costs)
            again = self._solve(made.problem)
            if again.plan == solution.plan:
                break
            solution = again
        return best

    def _lowered(self, made: TilingProblem, solution: HorizontalSolution, number: int) -> Tried:
        assert self.program.plan is not None and self.program.costs is not None
        groups = made.groups(solution.tiles)
        tiled_at = {block: group.hosts[0] for group in groups for block in group.blocks}
        hosts = {**solution.placement, **tiled_at}
        plan = replace(
            self.program.plan,
            placement={op.name: hosts[self.program.block_of[op.name].name]
                       for op in self.program.placed_ops},
            tiling=groups,
            transfers=(),
        )  # fmt: skip
        planned = replace(self.program, plan=plan)
        lowered = Tile().run(replace(planned, portfolio=None), self.context).program
        assert lowered.plan is not None
        topology = self.context.topology
        segments = SegmentMaker(lowered).segments(lowered.plan.placement)
        structure = [replace(segment, model=None) for segment in segments]
        calls = make_calls(lowered, structure, topology, transfers=lowered.plan.transfers)
        self.context.progress(f"measuring the segments of tiles, plan {number + 1}", None)
        sampling = Sampling(9, self.options.budget_s, self.options.pause_ms * 1e-3)
        times = SegmentMeter(lowered, self.context, sampling).measure(
            segments, self.options.budget_s
        )
        fixed_s = self.program.costs.segment_fixed_s
        seconds = {
            s.id: times.costs[s.host, s.ops].median_s
            if (s.host, s.ops) in times.costs
            else blocks_s(lowered, s) + fixed_s[s.host]
            for s in segments
        }
        problem = placement_problem(lowered, topology)
        found = forecast(problem, lowered, topology, structure, calls, seconds, {})
        return Tried(solution, groups, planned, found, times.costs)

    def _factors(
        self,
        made: TilingProblem,
        solution: HorizontalSolution,
        tried: Tried,
        costs: TileCosts,
    ) -> Mapping[str, float]:
        """By how much the tiles of a sharing took longer than their arcs say."""
        assert solution.objective is not None
        by_name = {each.name: each for each in made.candidates}
        thought_s = measured_s = 0.0
        used: list[str] = []
        for tiles in solution.tiles:
            used.append(by_name[tiles.tiling].priced_as)
            thought_s += sum(made.problem.arcs[tiles.arc].tile_s)
        hosts = {host for name in solution.tiles for host in by_name[name.tiling].sharing.hosts}
        own = {block for group in tried.groups for block in group.blocks}
        for (host, ops), cost in tried.costs.items():
            if host in hosts and any(op.rpartition("@")[0] for op in ops):
                measured_s += cost.median_s
        assert self.program.costs is not None
        whole_s = sum(
            self.program.costs.of(block, host).median_s
            for block, host in solution.placement.items()
            if host in hosts and block not in own
        )
        if thought_s <= 0 or measured_s <= whole_s:
            return costs.factors
        ratio = (measured_s - whole_s) / thought_s
        known = dict(costs.factors)
        for name in used:
            known[name] = known.get(name, 1.0) * ratio
        return known

    def _decide(self, made: TilingProblem, tried: Tried | None) -> PassResult:
        """The plan of `partition`, or the tiles that were tried, with the verdict."""
        plan = self.program.plan
        assert plan is not None and self.program.costs is not None
        if plan.unmet:
            return self._rescue(made, tried)
        untiled = self._solve(made.problem.untiled(), must_tile=False)
        limit_mbit_s = self._break_even(made.problem)
        takes = tried is not None and (self.must_tile or pays(plan, tried))
        verdict = verdict_of(plan, untiled, tried, takes, limit_mbit_s)
        self.said.append(verdict.sentence)
        if tried is None or not takes:
            plan = replace(plan, verdict=plan.verdict or verdict)
            return PassResult(replace(self.program, plan=plan), True, tuple(self.said))
        return self._chosen(made, tried, verdict)

    def _rescue(self, made: TilingProblem, tried: Tried | None) -> PassResult:
        """Tiles where nothing else keeps the constraints, if they still do once measured."""
        plan, deadline_ms = self.program.plan, self.context.topology.constraints.deadline_ms
        assert plan is not None
        if tried is None:
            raise InfeasibleError("no tiles were chosen")
        took_s = tried.forecast.simulated_s
        if deadline_ms is not None and took_s > deadline_ms * 1e-3:
            raise PassError(f"the fastest takes {took_s * 1e3:.3g} ms", pass_name="plan-tiles")
        verdict = rescue_verdict(tried)
        self.said.append(verdict.sentence)
        return self._chosen(made, tried, verdict)

    def _chosen(self, made: TilingProblem, tried: Tried, verdict: Verdict) -> PassResult:
        assert self.program.plan is not None and self.program.costs is not None
        chosen = plan_with_tiles(self.program.plan, tried, self._even_tiles(made), verdict)
        costs = replace(self.program.costs, segments={**self.program.costs.segments, **tried.costs})
        program = replace(tried.program, plan=chosen, costs=costs)
        return PassResult(program, True, tuple(self.said))

    def _even_tiles(self, made: TilingProblem) -> HorizontalSolution | None:
        """The whole of the longest range in even tiles, for comparison."""
        for arc in made.problem.arcs:
            candidate = next(c for c in made.candidates if c.name == arc.tiling)
            if isinstance(candidate, BranchCandidate):
                continue
            shares = candidate.sharing.shares
            cuts = candidate.tileable.cuts
            ends = (arc.entry, arc.exit) == (cuts[0], cuts[-1])
            if ends and max(shares) - min(shares) < _EVEN and arc.entry_bytes is not None:
                alone = made.problem.changed(arcs=(arc,))
                try:
                    return self._solve(alone, must_tile=True)
                except PartcError:
                    return None
        return None

    def _break_even(self, problem: HorizontalProblem) -> HorizontalBreakEven | None:
        """From which speed of the links between those that share; a bus is not examined."""
        if self.context.topology.bus:
            return None
        hosts = sorted({host for group in self.groups for host in group})
        return horizontal_break_even(
            lambda mbit_s: with_bandwidth(problem, hosts, mbit_s), accuracy=0.05
        )

    def _refuse(self, why: str) -> None:
        if self.must_tile:
            raise PassError(
                f"model {self.program.name!r} cannot be tiled: {why}; leave [tiles] use at auto",
                pass_name=self.options.name,
            )
        self.said.append(f"nothing is tiled: {why}")
