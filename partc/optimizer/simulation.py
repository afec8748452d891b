"""Latency of a plan whose hosts work in parallel: a list schedule, first come first served."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from partc.errors import UsageError
from partc.optimizer.evaluation import CodecChoice, Transfer, evaluate
from partc.optimizer.problem import MEDIUM, Problem


@dataclass(frozen=True)
class Step:
    """One piece of work on a host, a link direction ("a->b"), a bus port ("a:bus") or a medium.

    On a shared serial bus, a host sends or receives and `also` is the medium that it needs.
    """

    what: str
    resource: str
    start_s: float
    end_s: float
    also: str | None = None


@dataclass(frozen=True)
class Simulation:
    """A schedule of one request.

    Attributes:
        latency_s: when the last step ends; never more than the sequential latency.
        steps: all work in order of its start.
    """

    latency_s: float
    steps: tuple[Step, ...]


@dataclass
class Task:
    """Work for one resource, or two at once, that waits for other work."""

    what: str
    resource: str
    seconds: float
    also: str | None = None
    waiting_for: int = 0
    then: list[Task] = field(default_factory=list)

    @property
    def needs(self) -> tuple[str, ...]:
        """The resources that it occupies."""
        return (self.resource,) if self.also is None else (self.resource, self.also)

    def after(self, other: Task) -> None:
        """Wait for another task."""
        other.then.append(self)
        self.waiting_for += 1


def simulate(
    problem: Problem, placement: Mapping[str, str], codecs: CodecChoice | None = None
) -> Simulation:
    """Run a plan on hosts and links that each do one thing at a time, in order of arrival.

    Nothing waits while what it needs is there and its resource is free, so at every moment
    something runs, and the latency is at most the sum of all work.

    Raises:
        UsageError: the placement is incomplete, or puts an op where it cannot run.
    """
    evaluation = evaluate(problem, placement, codecs)
    for op in problem.ops:
        if placement[op.name] not in op.cost_s:
            raise UsageError(f"Op {op.name!r} cannot run on host {placement[op.name]!r}.")
    return run_tasks(_tasks(problem, placement, evaluation.transfers))


def _tasks(
    problem: Problem, placement: Mapping[str, str], transfers: tuple[Transfer, ...]
) -> list[Task]:
    tasks: list[Task] = []
    arrival: dict[tuple[str, str], Task] = {}
    hops: dict[str, list[Transfer]] = {}
    for transfer in transfers:
        hops.setdefault(transfer.tensor, []).append(transfer)
    serial = problem.bus is not None and problem.bus.serial
    shared = problem.bus is not None and problem.bus.shared
    medium = MEDIUM if serial and shared else None

    def port(host: str) -> str:
        if serial:
            return host
        return MEDIUM if shared else f"{host}:bus"

    def add(
        what: str, resource: str, seconds: float, *before: Task | None, also: str | None = None
    ) -> Task:
        task = Task(what, resource, seconds, also)
        for other in before:
            if other is not None:
                task.after(other)
        tasks.append(task)
        return task

    def send(tensor: str, made: Task | None) -> None:
        put: Task | None = None
        for hop in hops.get(tensor, []):
            ready = arrival.get((tensor, hop.source), made)
            if problem.bus is None:
                if hop.encode_s > 0:
                    ready = add(f"encode {tensor}", hop.source, hop.encode_s, ready)
                link = f"{hop.source}->{hop.destination}"
                ready = add(f"send {tensor}", link, hop.wire_s, ready)
            else:
                if put is None:
                    if hop.encode_s > 0:
                        ready = add(f"encode {tensor}", hop.source, hop.encode_s, ready)
                    put = add(f"put {tensor}", port(hop.source), hop.put_s, ready, also=medium)
                ready = add(f"take {tensor}", port(hop.destination), hop.wire_s, put, also=medium)
            if hop.decode_s > 0:
                ready = add(f"decode {tensor}", hop.destination, hop.decode_s, ready)
            arrival[tensor, hop.destination] = ready

    for tensor in problem.inputs:
        send(tensor, None)
    for op in problem.ordered_ops:
        host = placement[op.name]
        before = [arrival.get((tensor, host)) for tensor in dict.fromkeys(op.inputs)]
        task = add(op.name, host, op.cost_s[host], *before)
        for tensor in op.outputs:
            arrival[tensor, host] = task
            send(tensor, task)
    return tasks


def run_tasks(tasks: list[Task]) -> Simulation:
    """Run tasks on resources that each do one thing at a time, in order of arrival."""
    # Tasks that need the same wait in one queue, in order of their arrival.
    queues: dict[tuple[str, ...], list[tuple[float, int]]] = {task.needs: [] for task in tasks}
    wanting: dict[str, list[tuple[str, ...]]] = {}
    for needs in queues:
        for resource in needs:
            wanting.setdefault(resource, []).append(needs)
    busy = dict.fromkeys(wanting, False)
    position = {id(task): index for index, task in enumerate(tasks)}
    ending: list[tuple[float, int]] = []
    steps: list[Step] = []

    def start_what_can(candidates: list[tuple[str, ...]], now_s: float) -> None:
        while True:
            ready = [
                (queues[needs][0], needs)
                for needs in dict.fromkeys(candidates)
                if queues[needs] and not any(busy[resource] for resource in needs)
            ]
            if not ready:
                return
            needs = min(ready)[1]
            _, index = heapq.heappop(queues[needs])
            task = tasks[index]
            busy.update(dict.fromkeys(needs, True))
            end_s = now_s + task.seconds
            steps.append(Step(task.what, task.resource, now_s, end_s, task.also))
            heapq.heappush(ending, (end_s, index))

    for index, task in enumerate(tasks):
        if task.waiting_for == 0:
            heapq.heappush(queues[task.needs], (0.0, index))
    start_what_can(list(queues), 0.0)
    latency_s = 0.0
    while ending:
        now_s, index = heapq.heappop(ending)
        latency_s = max(latency_s, now_s)
        task = tasks[index]
        busy.update(dict.fromkeys(task.needs, False))
        woken = [needs for resource in task.needs for needs in wanting[resource]]
        for follower in task.then:
            follower.waiting_for -= 1
            if follower.waiting_for == 0:
                heapq.heappush(queues[follower.needs], (now_s, position[id(follower)]))
                woken.append(follower.needs)
        start_what_can(woken, now_s)
    return Simulation(latency_s, tuple(steps))
