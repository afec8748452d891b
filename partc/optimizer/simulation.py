"""Latency of a plan whose hosts work in parallel: a list schedule, first come first served."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from partc.errors import UsageError
from partc.optimizer.evaluation import CodecChoice, Transfer, evaluate
from partc.optimizer.problem import Problem


@dataclass(frozen=True)
class Step:
    """One piece of work on a host, a link direction ("a->b") or a bus port ("a:bus")."""

    what: str
    resource: str
    start_s: float
    end_s: float


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
    """Work for one resource that waits for other work."""

    what: str
    resource: str
    seconds: float
    waiting_for: int = 0
    then: list[Task] = field(default_factory=list)

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

    def port(host: str) -> str:
        return host if serial else f"{host}:bus"

    def add(what: str, resource: str, seconds: float, *before: Task | None) -> Task:
        task = Task(what, resource, seconds)
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
                    put = add(f"put {tensor}", port(hop.source), hop.put_s, ready)
                ready = add(f"take {tensor}", port(hop.destination), hop.wire_s, put)
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
    queues: dict[str, list[tuple[float, int]]] = {task.resource: [] for task in tasks}
    busy: dict[str, bool] = dict.fromkeys(queues, False)
    position = {id(task): index for index, task in enumerate(tasks)}
    ending: list[tuple[float, int]] = []
    steps: list[Step] = []

    def start_next(resource: str, now_s: float) -> None:
        if busy[resource] or not queues[resource]:
            return
        _, index = heapq.heappop(queues[resource])
        task = tasks[index]
        busy[resource] = True
        steps.append(Step(task.what, resource, now_s, now_s + task.seconds))
        heapq.heappush(ending, (now_s + task.seconds, index))

    for index, task in enumerate(tasks):
        if task.waiting_for == 0:
            heapq.heappush(queues[task.resource], (0.0, index))
    for resource in queues:
        start_next(resource, 0.0)
    latency_s = 0.0
    while ending:
        now_s, index = heapq.heappop(ending)
        latency_s = max(latency_s, now_s)
        task = tasks[index]
        busy[task.resource] = False
        woken = {task.resource: None}
        for follower in task.then:
            follower.waiting_for -= 1
            if follower.waiting_for == 0:
                heapq.heappush(queues[follower.resource], (now_s, position[id(follower)]))
                woken[follower.resource] = None
        for resource in woken:
            start_next(resource, now_s)
    return Simulation(latency_s, tuple(steps))
