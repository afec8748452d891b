"""Latency of a horizontal plan whose hosts and links work in parallel.

A tile begins when its own parts have arrived, not when those of all tiles have; a halo leaves when
its tile is done, while other tiles still compute; a gather begins with the first tile that is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from partc.optimizer.horizontal.evaluation import evaluate_horizontal
from partc.optimizer.horizontal.problem import HorizontalProblem
from partc.optimizer.horizontal.routes import HorizontalRoutes, Leg
from partc.optimizer.horizontal.solution import HorizontalPlan, TiledRange
from partc.optimizer.simulation import Simulation, Step, Task, run_tasks

if TYPE_CHECKING:
    from partc.optimizer.horizontal.evaluation import HorizontalEvaluation

Before = tuple[Task, ...]


def simulate_horizontal(problem: HorizontalProblem, plan: HorizontalPlan) -> Simulation:
    """Run a plan on hosts and links that each do one thing at a time, in order of arrival.

    Serving in order of arrival can delay what matters; where that makes it slower than one stage
    after the other, the sequential timetable is the answer, so it is never worse than that.

    Raises:
        UsageError: the plan does not fit the problem.
    """
    evaluation = evaluate_horizontal(problem, plan)
    schedule = run_tasks(_Tasks(problem, plan).all())
    if schedule.latency_s <= evaluation.latency_s:
        return schedule
    return _sequential(evaluation)


def _sequential(evaluation: HorizontalEvaluation) -> Simulation:
    """One stage after the other; messages of a stage first, then its work."""
    steps = []
    now_s = 0.0
    for stage in evaluation.stages:
        slowest_s = max((work.seconds for work in stage.work), default=0.0)
        begin_s = now_s + stage.seconds - slowest_s
        for message in stage.messages:
            link = f"{message.source}->{message.destination}"
            end_s = min(now_s + message.seconds, begin_s)
            steps.append(Step(f"{message.kind} {message.tensor}", link, now_s, end_s))
        for work in stage.work:
            steps.append(Step(work.what, work.host, begin_s, begin_s + work.seconds))
        now_s += stage.seconds
    return Simulation(evaluation.latency_s, tuple(steps))


class _Tasks:
    def __init__(self, problem: HorizontalProblem, plan: HorizontalPlan) -> None:
        self.problem = problem
        self.plan = plan
        self.routes = HorizontalRoutes(problem)
        self.tasks: list[Task] = []
        self.arrived: dict[tuple[str, str], Before] = {}
        self.tile_of: dict[tuple[str, str], Task] = {}  # by exit and host
        self.tiled_as: dict[str, str] = {}
        self.home = dict(problem.inputs)
        self.gone: dict[tuple[str, Leg], Task] = {}

    def all(self) -> list[Task]:
        """Every task, in an order in which one could do them."""
        arc_of = {
            op: tiles
            for tiles in self.plan.tiles
            for op in self.problem.range_ops[tiles.entry, tiles.exit]
        }
        begun: set[TiledRange] = set()
        for op in self.problem.vertical.ordered_ops:
            tiles = arc_of.get(op.name)
            if tiles is None:
                host = self.plan.placement[op.name]
                before = [self._whole(tensor, host) for tensor in dict.fromkeys(op.inputs)]
                task = self._task(op.name, host, op.cost_s[host], *before)
                for tensor in op.outputs:
                    self.home[tensor] = host
                    self.arrived[tensor, host] = (task,)
            elif tiles not in begun and tiles.entry in op.inputs:
                begun.add(tiles)
                self._tiles(tiles)
        for tensor, host in self.problem.outputs.items():
            self._whole(tensor, host)
        return self.tasks

    def _task(self, what: str, resource: str, seconds: float, *before: Before) -> Task:
        task = Task(what, resource, seconds)
        for other in {id(one): one for group in before for one in group}.values():
            task.after(other)
        self.tasks.append(task)
        return task

    def _whole(self, tensor: str, host: str) -> Before:
        """What must be done before the tensor is whole on the host."""
        if (tensor, host) in self.arrived:
            return self.arrived[tensor, host]
        if tensor in self.tiled_as:
            arrived = self._gather(tensor, host)
        elif self.home[tensor] == host:
            arrived = ()
        else:
            arrived = self._send_whole(tensor, host)
        self.arrived[tensor, host] = arrived
        return arrived

    def _gather(self, tensor: str, host: str) -> Before:
        tiling = self.problem.tiling_by_name[self.tiled_as[tensor]]
        done = []
        sizes = self.problem.gather_bytes(tensor, tiling.name)
        for sender, size_bytes in zip(tiling.hosts, sizes, strict=True):
            tile = self.tile_of[tensor, sender]
            if sender == host or size_bytes <= 0:
                done.append(tile)
            else:
                done.append(self._send(tensor, sender, host, size_bytes, "gather", (tile,)))
        return tuple(done)

    def _tiles(self, tiles: TiledRange) -> None:
        arc = self.problem.arcs[tiles.arc]
        hosts = self.problem.tiling_by_name[arc.tiling].hosts
        before: list[list[Task]] = []
        if tiles.source in self.problem.host_names:
            assert arc.entry_bytes is not None
            there = self._whole(arc.entry, tiles.source)
            for host, size_bytes in zip(hosts, arc.entry_bytes, strict=True):
                if host == tiles.source or size_bytes <= 0:
                    before.append(list(there))
                    continue
                before.append(
                    [self._send(arc.entry, tiles.source, host, size_bytes, "scatter", there)]
                )
        else:
            senders = self.problem.tiling_by_name[tiles.source].hosts
            before = [[] for _ in hosts]
            for sender, row in zip(senders, arc.halo_bytes[tiles.source], strict=True):
                tile = self.tile_of[arc.entry, sender]
                for needed, host, size_bytes in zip(before, hosts, row, strict=True):
                    if sender == host:
                        needed.append(tile)
                    elif size_bytes > 0:
                        needed.append(
                            self._send(arc.entry, sender, host, size_bytes, "halo", (tile,))
                        )
        name = f"{arc.entry}..{arc.exit}"
        for host, seconds, needed in zip(hosts, arc.tile_s, before, strict=True):
            self.tile_of[arc.exit, host] = self._task(name, host, seconds, tuple(needed))
        self.tiled_as[arc.exit] = arc.tiling

    def _send_whole(self, tensor: str, host: str) -> Before:
        """Leg after leg; what it has gone before it need not go again."""
        data = self.problem.vertical.tensor_by_name[tensor]
        source = self.home[tensor]
        before = self.arrived.get((tensor, source), ())
        for leg in self.routes.legs(source, host):
            if (tensor, leg) not in self.gone:
                seconds = leg.seconds(data.size_bytes, data)
                self.gone[tensor, leg] = self._on(leg, f"whole {tensor}", seconds, before)
            before = (self.gone[tensor, leg],)
            if leg.receiver is not None:
                self.arrived[tensor, leg.receiver] = before
        return before

    def _send(
        self, tensor: str, source: str, to: str, size_bytes: float, kind: str, before: Before
    ) -> Task:
        for leg in self.routes.legs(source, to):
            before = (self._on(leg, f"{kind} {tensor}", leg.seconds(size_bytes), before),)
        return before[0]

    def _on(self, leg: Leg, what: str, seconds: float, before: Before) -> Task:
        """On one thing at a time: of all that a leg occupies, what most else goes through."""
        busiest = leg.loads[0] if len(leg.loads) == 1 else leg.loads[1]
        return self._task(what, busiest, seconds, before)
