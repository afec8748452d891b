"""What a horizontal plan costs and what it breaks, from the problem's definition alone.

Nothing here is shared with the model that the solvers see: this is what their plans are checked
against. What a step is made of (work on hosts, messages between them) is what `simulate_horizontal`
schedules, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from partc.errors import UsageError
from partc.optimizer.horizontal.problem import Arc, HorizontalProblem
from partc.optimizer.horizontal.routes import HorizontalRoutes, Leg
from partc.optimizer.horizontal.solution import HorizontalPlan, Message, TiledRange
from partc.optimizer.problem import Host
from partc.suggest import unknown_name


@dataclass(frozen=True)
class Work:
    """Seconds on a host, and what that is for."""

    what: str
    host: str
    seconds: float


@dataclass(frozen=True)
class Stage:
    """One thing after another in a sequential run; its parts run at the same time.

    Attributes:
        name: the op, or "entry..exit" of an arc, or the tensor that moves.
        messages: what must arrive first.
        work: one piece per host.
        seconds: until all is done when nothing else runs.
    """

    name: str
    messages: tuple[Message, ...]
    work: tuple[Work, ...]
    seconds: float


@dataclass(frozen=True)
class HorizontalEvaluation:
    """What a plan costs.

    Attributes:
        objective: the problem's objective, in seconds or joules; infinite if an op cannot run.
        latency_s: one request, stage after stage.
        bottleneck_s: the largest load: the pipeline's seconds per request.
        stages: what the latency is the sum of.
        messages: all that is sent.
        loads: seconds per request of each host, and of each link direction as "a->b" (a bus
            without `serial`: "a:bus"; shared ports: "a:out" and "a:in").
        memory_bytes: weights that each host holds.
        energy_j: per host. Messages may go at the same time, so each adds to idle power what
            sending and receiving take above it.
        violations: one sentence per constraint that the plan breaks.
    """

    objective: float
    latency_s: float
    bottleneck_s: float
    stages: tuple[Stage, ...]
    messages: tuple[Message, ...]
    loads: dict[str, float]
    memory_bytes: dict[str, float]
    energy_j: dict[str, float]
    violations: tuple[str, ...]


def evaluate_horizontal(problem: HorizontalProblem, plan: HorizontalPlan) -> HorizontalEvaluation:
    """The exact cost of a plan, and the constraints it breaks.

    Raises:
        UsageError: a name is unknown, an op has no place or two, or an arc cannot be entered so.
    """
    return _Evaluator(problem, plan).run()


class _Evaluator:
    def __init__(self, problem: HorizontalProblem, plan: HorizontalPlan) -> None:
        self.problem = problem
        self.plan = plan
        self.graph = problem.vertical
        self.routes = HorizontalRoutes(problem)
        self.hosts: dict[str, Host] = {host.name: host for host in problem.hosts}
        self.arc_of_op: dict[str, tuple[TiledRange, Arc]] = {}
        self.violations: list[str] = []
        self.stages: list[Stage] = []
        self._check_plan()

    def run(self) -> HorizontalEvaluation:
        self._run_stages()
        latency_s = math.fsum(stage.seconds for stage in self.stages)
        busy_s = dict.fromkeys(self.hosts, 0.0)
        for stage in self.stages:
            for work in stage.work:
                busy_s[work.host] += work.seconds
        messages = tuple(message for stage in self.stages for message in stage.messages)
        loads, sending_s, receiving_s = self._traffic(busy_s)
        energy_j = {
            name: host.power_active_w * busy_s[name]
            + host.power_idle_w * (latency_s - busy_s[name])
            + max(0.0, host.power_tx_w - host.power_idle_w) * sending_s[name]
            + max(0.0, host.power_rx_w - host.power_idle_w) * receiving_s[name]
            for name, host in self.hosts.items()
        }
        bottleneck_s = max(loads.values())
        memory_bytes = {name: self._memory_bytes(name) for name in self.hosts}
        self._check_limits(latency_s, loads, memory_bytes, energy_j)
        objective = {
            "latency": latency_s,
            "throughput": bottleneck_s,
            "energy": math.fsum(
                energy_j[name] for name in dict.fromkeys(self.problem.energy_hosts or self.hosts)
            ),
        }[self.problem.objective]
        return HorizontalEvaluation(
            objective=math.inf if math.isinf(latency_s) else objective,
            latency_s=latency_s,
            bottleneck_s=bottleneck_s,
            stages=tuple(self.stages),
            messages=messages,
            loads=loads,
            memory_bytes=memory_bytes,
            energy_j=energy_j,
            violations=tuple(self.violations),
        )

    # The plan

    def _check_plan(self) -> None:
        names = {op.name for op in self.problem.ops}
        for op, host in self.plan.placement.items():
            if op not in names:
                raise UsageError(f"In the placement: {unknown_name('op', op, names)}")
            if host not in self.hosts:
                raise UsageError(f"In the placement: {unknown_name('host', host, self.hosts)}")
        for tiles in self.plan.tiles:
            arc = self._arc(tiles)
            for op in self.problem.range_ops[arc.entry, arc.exit]:
                if op in self.plan.placement or op in self.arc_of_op:
                    raise UsageError(f"The plan runs op {op!r} twice.")
                self.arc_of_op[op] = (tiles, arc)
        for op in names:
            if op not in self.plan.placement and op not in self.arc_of_op:
                raise UsageError(f"The plan has neither a host nor an arc for op {op!r}.", op=op)

    def _arc(self, tiles: TiledRange) -> Arc:
        where = f"the arc from {tiles.entry!r} to {tiles.exit!r} as {tiles.tiling!r}"
        if not 0 <= tiles.arc < len(self.problem.arcs):
            raise UsageError(f"The problem has no arc number {tiles.arc} for {where}.")
        arc = self.problem.arcs[tiles.arc]
        if (arc.entry, arc.exit, arc.tiling) != (tiles.entry, tiles.exit, tiles.tiling):
            raise UsageError(f"Arc number {tiles.arc} of the problem is not {where}.")
        if tiles.source in self.hosts:
            if arc.entry_bytes is None:
                raise UsageError(f"In the plan, {where} cannot be entered from a whole tensor.")
        elif tiles.source not in arc.halo_bytes:
            raise UsageError(f"In the plan, {where} cannot be entered from {tiles.source!r}.")
        return arc

    # Stages

    def _run_stages(self) -> None:
        self.arrived: dict[str, set[str]] = {}
        self.tiled_as: dict[str, str] = {}
        for tensor, home in self.problem.inputs.items():
            self.arrived[tensor] = {home}
        self.home = dict(self.problem.inputs)
        self.gone: set[tuple[str, Leg]] = set()
        self.traffic: list[tuple[Leg, float]] = []
        begun: set[TiledRange] = set()
        for op in self.graph.ordered_ops:
            if op.name in self.arc_of_op:
                tiles, arc = self.arc_of_op[op.name]
                if tiles not in begun and arc.entry in op.inputs:
                    begun.add(tiles)
                    self._run_arc(tiles, arc)
                continue
            host = self.plan.placement[op.name]
            for tensor in dict.fromkeys(op.inputs):
                self._fetch(tensor, host)
            if host not in op.cost_s:
                self.violations.append(f"Op {op.name!r} cannot run on host {host!r}.")
            seconds = op.cost_s.get(host, math.inf)
            self.stages.append(Stage(op.name, (), (Work(op.name, host, seconds),), seconds))
            for tensor in op.outputs:
                self.home[tensor] = host
                self.arrived[tensor] = {host}
        for tensor, host in self.problem.outputs.items():
            self._fetch(tensor, host)

    def _fetch(self, tensor: str, host: str) -> None:
        """Make a tensor whole on a host, unless it is."""
        if host in self.arrived.setdefault(tensor, set()):
            return
        self.arrived[tensor].add(host)
        if tensor in self.tiled_as:
            tiling = self.tiled_as[tensor]
            senders = self.problem.tiling_by_name[tiling].hosts
            parts = zip(senders, self.problem.gather_bytes(tensor, tiling), strict=True)
            messages = [
                self._message(tensor, sender, host, size, "gather")
                for sender, size in parts
                if sender != host and size > 0
            ]
            seconds = self._together_s(messages)
        else:
            messages = self._send_whole(tensor, host)
            seconds = math.fsum(message.seconds for message in messages)
        self._move(tensor, messages)
        self.stages.append(Stage(tensor, tuple(messages), (), seconds))

    def _send_whole(self, tensor: str, host: str) -> list[Message]:
        """Leg after leg, less those that it has gone before; on a bus, one message."""
        data = self.graph.tensor_by_name[tensor]
        home = self.home[tensor]
        messages = []
        seconds = 0.0
        for leg in self.routes.legs(home, host):
            gone = (tensor, leg) in self.gone
            if not gone:
                self.gone.add((tensor, leg))
                leg_s = leg.seconds(data.size_bytes, data)
                self.traffic.append((leg, leg_s))
                seconds += leg_s
            if leg.receiver is None:
                continue
            self.arrived[tensor].add(leg.receiver)
            if not gone:
                sender = leg.sender or home
                messages.append(
                    Message(tensor, sender, leg.receiver, data.size_bytes, "whole", seconds)
                )
            seconds = 0.0
        return messages

    def _run_arc(self, tiles: TiledRange, arc: Arc) -> None:
        hosts = self.problem.tiling_by_name[arc.tiling].hosts
        messages = []
        if tiles.source in self.hosts:
            self._fetch(arc.entry, tiles.source)
            assert arc.entry_bytes is not None
            for host, size in zip(hosts, arc.entry_bytes, strict=True):
                if host != tiles.source and size > 0:
                    messages.append(self._message(arc.entry, tiles.source, host, size, "scatter"))
        else:
            if self.tiled_as.get(arc.entry) != tiles.source:
                raise UsageError(
                    f"In the plan, the arc from {arc.entry!r} to {arc.exit!r} begins in tiles of "
                    f"{tiles.source!r}, but {arc.entry!r} is not tiled so."
                )
            senders = self.problem.tiling_by_name[tiles.source].hosts
            for sender, row in zip(senders, arc.halo_bytes[tiles.source], strict=True):
                for host, size in zip(hosts, row, strict=True):
                    if sender != host and size > 0:
                        messages.append(self._message(arc.entry, sender, host, size, "halo"))
        self._move(arc.entry, messages)
        name = f"{arc.entry}..{arc.exit}"
        work = tuple(
            Work(name, host, seconds) for host, seconds in zip(hosts, arc.tile_s, strict=True)
        )
        seconds = self._together_s(messages) + max(arc.tile_s)
        self.stages.append(Stage(name, tuple(messages), work, seconds))
        self.tiled_as[arc.exit] = arc.tiling

    def _message(
        self, tensor: str, source: str, destination: str, size_bytes: float, kind: str
    ) -> Message:
        legs = [(leg, leg.seconds(size_bytes)) for leg in self.routes.legs(source, destination)]
        self.traffic += legs
        seconds = math.fsum(leg_s for _, leg_s in legs)
        return Message(tensor, source, destination, size_bytes, kind, seconds)

    def _together_s(self, messages: list[Message]) -> float:
        """Until all have arrived; those that share a medium go one after another."""
        groups: list[tuple[set[str], float]] = []
        for message in messages:
            media = set(self.routes.media(message.source, message.destination))
            seconds = message.seconds
            apart = []
            for known, known_s in groups:
                if known & media:
                    media |= known
                    seconds += known_s
                else:
                    apart.append((known, known_s))
            groups = [*apart, (media, seconds)]
        return max((seconds for _, seconds in groups), default=0.0)

    def _move(self, tensor: str, messages: list[Message]) -> None:
        if messages and tensor in self.problem.constraints.keep_local:
            self.violations.append(
                f"Tensor {tensor!r} must stay on its host, but it or a part of it is sent."
            )

    # Sums

    def _traffic(
        self, busy_s: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Loads, and seconds that each host sends and receives."""
        loads = dict(busy_s)
        sending_s = dict.fromkeys(self.hosts, 0.0)
        receiving_s = dict.fromkeys(self.hosts, 0.0)
        for leg, seconds in self.traffic:
            for name in leg.loads:
                loads[name] = loads.get(name, 0.0) + seconds
            if leg.sender is not None:
                sending_s[leg.sender] += seconds
            if leg.receiver is not None:
                receiving_s[leg.receiver] += seconds
        return loads, sending_s, receiving_s

    def _memory_bytes(self, host: str) -> float:
        held: set[str] = set()
        for op in self.problem.ops:
            if self.plan.placement.get(op.name) == host:
                held |= set(op.weights)
            if op.name in self.arc_of_op:
                arc = self.arc_of_op[op.name][1]
                if host in self.problem.tiling_by_name[arc.tiling].hosts:
                    held |= set(arc.weights.get(host, op.weights))
        return math.fsum(self.problem.weight_bytes[name] for name in held)

    def _check_limits(
        self,
        latency_s: float,
        loads: dict[str, float],
        memory_bytes: dict[str, float],
        energy_j: dict[str, float],
    ) -> None:
        limits = self.problem.constraints
        for host in self.problem.hosts:
            if _above(memory_bytes[host.name], host.memory_bytes):
                self.violations.append(
                    f"Host {host.name!r} needs {memory_bytes[host.name]:.9g} bytes of memory, but "
                    f"has {host.memory_bytes:.9g}."
                )
        if _above(latency_s, limits.deadline_s):
            self.violations.append(
                f"The latency is {latency_s:.9g} s, and the deadline {limits.deadline_s:.9g} s."
            )
        for name, load in loads.items():
            if _above(load, limits.period_s):
                self.violations.append(
                    f"{name!r} is busy for {load:.9g} s, and the period is {limits.period_s:.9g} s."
                )
        for name, budget_j in limits.energy_j.items():
            if _above(energy_j[name], budget_j):
                self.violations.append(
                    f"Host {name!r} uses {energy_j[name]:.9g} J, above its {budget_j:.9g} J."
                )
        for op, host_name in limits.pinned.items():
            if self.plan.placement.get(op) != host_name:
                self.violations.append(f"Op {op!r} is pinned to host {host_name!r}.")
        for op, hosts in limits.forbidden.items():
            used = set(self._hosts_of(op)) & set(hosts)
            if used:
                self.violations.append(f"Op {op!r} must not run on {', '.join(sorted(used))}.")
        for group in limits.together:
            places = {
                (
                    self.plan.placement.get(op),
                    self.arc_of_op[op][0] if op in self.arc_of_op else None,
                )
                for op in group
            }
            if len(places) > 1:
                self.violations.append(f"Ops {', '.join(map(repr, group))} must share a host.")

    def _hosts_of(self, op: str) -> tuple[str, ...]:
        if op in self.plan.placement:
            return (self.plan.placement[op],)
        return self.problem.tiling_by_name[self.arc_of_op[op][1].tiling].hosts


def _above(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit * (1 + 1e-6) + 1e-12
