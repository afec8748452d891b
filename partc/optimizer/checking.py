"""What a placement problem must satisfy beyond its types."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

from partc.errors import UsageError
from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.optimizer.problem import Op, Problem


def check_problem(problem: Problem) -> None:
    """Raise UsageError for the first inconsistency, in one sentence that names it."""
    hosts = _distinct("host", (host.name for host in problem.hosts))
    tensors = _distinct("tensor", (tensor.name for tensor in problem.tensors))
    weights = _distinct("weight", (weight.name for weight in problem.weights))
    codecs = _distinct("codec", (codec.name for codec in problem.codecs))
    ops = _distinct("op", (op.name for op in problem.ops))
    if "none" in codecs:
        raise UsageError("The codec name 'none' is reserved for sending a tensor as it is.")
    _check_joined(problem, hosts)
    for tensor in problem.tensors:
        for codec in tensor.codecs:
            _known("codec", codec, codecs, f"tensor {tensor.name!r}")
        for host_name in tensor.extra_s:
            _known("host", host_name, hosts, f"extra_s of tensor {tensor.name!r}")
    for op in problem.ops:
        where = f"op {op.name!r}"
        for name in (*op.inputs, *op.outputs):
            _known("tensor", name, tensors, where)
        for name in op.weights:
            _known("weight", name, weights, where)
        for name in op.cost_s:
            _known("host", name, hosts, f"cost_s of {where}")
    for label, homes in (("inputs", problem.inputs), ("outputs", problem.outputs)):
        for tensor_name, host_name in homes.items():
            _known("tensor", tensor_name, tensors, label)
            _known("host", host_name, hosts, f"{label} for tensor {tensor_name!r}")
    for host in problem.hosts:
        for name in host.codec_factors:
            _known("codec", name, codecs, f"codec_factors of host {host.name!r}")
    for name in problem.energy_hosts:
        _known("host", name, hosts, "energy_hosts")
    _check_producers(problem)
    _check_constraints(problem, hosts, tensors, ops)
    ordered_ops(problem.ops)


def ordered_ops(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Ops in a topological order, the given order where that is possible.

    Raises:
        UsageError: the ops form a cycle; it is named.
    """
    position_of_producer = {name: index for index, op in enumerate(ops) for name in op.outputs}
    successors: list[list[int]] = [[] for _ in ops]
    waiting = [0] * len(ops)
    for index, op in enumerate(ops):
        for name in set(op.inputs):
            if name in position_of_producer:
                successors[position_of_producer[name]].append(index)
                waiting[index] += 1
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for successor in successors[index]:
            waiting[successor] -= 1
            if waiting[successor] == 0:
                heapq.heappush(ready, successor)
    if len(order) < len(ops):
        cycle = _cycle(ops, position_of_producer, set(range(len(ops))) - set(order))
        raise UsageError(f"The ops form a cycle: {' -> '.join(cycle)}.")
    return tuple(ops[index] for index in order)


def _cycle(ops: tuple[Op, ...], producer: dict[str, int], left: set[int]) -> list[str]:
    """Walk back from an op that never became ready until one repeats."""
    walk = [min(left)]
    while True:
        before = next(
            producer[name] for name in ops[walk[-1]].inputs if producer.get(name, -1) in left
        )
        if before in walk:
            loop = [*walk[walk.index(before) :], before]
            return [ops[index].name for index in reversed(loop)]
        walk.append(before)


def _distinct(kind: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"Two {kind}s are named {name!r}; names must differ.")
        seen.add(name)
    return seen


def _known(kind: str, name: str, known: set[str], where: str) -> None:
    if name not in known:
        raise UsageError(f"In {where}: {unknown_name(kind, name, known)}")


def _check_joined(problem: Problem, hosts: set[str]) -> None:
    if problem.bus is not None:
        _check_bus(problem, hosts)
        return
    group = {name: name for name in hosts}
    seen: set[frozenset[str]] = set()

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for link in problem.links:
        a, b = link.between
        for name in link.between:
            _known("host", name, hosts, "links")
        if a == b:
            raise UsageError(f"A link joins host {a!r} to itself.")
        pair = frozenset(link.between)
        if pair in seen:
            raise UsageError(f"Hosts {a!r} and {b!r} are linked twice; leave out the slower link.")
        seen.add(pair)
        group[root(a)] = root(b)
    first = problem.hosts[0].name
    for name in problem.host_names:
        if root(name) != root(first):
            raise UsageError(f"No links join host {name!r} to host {first!r}; add one.")
    for way in problem.routes:
        for name in way:
            _known("host", name, hosts, "routes")
    from partc.optimizer.routes import check_routes

    check_routes(problem)


def _check_bus(problem: Problem, hosts: set[str]) -> None:
    from partc.optimizer.problem import MEDIUM

    assert problem.bus is not None
    if problem.links:
        raise UsageError("A problem has either links or a bus; this one has both.")
    if problem.routes:
        raise UsageError("On a bus there is one way between any two hosts; leave out routes.")
    _distinct("bus host", problem.bus.hosts)
    if problem.bus.shared and MEDIUM in hosts:
        raise UsageError(f"A host cannot be named {MEDIUM!r}, which is the load of a shared bus.")
    for name in problem.bus.hosts:
        _known("host", name, hosts, "bus")
    for host in problem.hosts:
        if host.name not in problem.bus.hosts:
            raise UsageError(f"Host {host.name!r} is not on the bus; add it to bus.hosts.")
        if host.bus_seconds_per_byte is None:
            raise UsageError(
                f"Host {host.name!r} is on the bus but has no bus_seconds_per_byte; give one "
                "(0 if its transfers are free)."
            )


def _check_producers(problem: Problem) -> None:
    producer: dict[str, str] = {}
    for op in problem.ops:
        for name in op.outputs:
            if name in producer:
                raise UsageError(
                    f"Tensor {name!r} is produced twice, by op {producer[name]!r} and by op "
                    f"{op.name!r}."
                )
            if name in problem.inputs:
                raise UsageError(
                    f"Tensor {name!r} is an input and also produced by op {op.name!r}."
                )
            producer[name] = op.name
    for op in problem.ops:
        for name in op.inputs:
            if name not in producer and name not in problem.inputs:
                raise UsageError(
                    f"Tensor {name!r}, read by op {op.name!r}, is neither an input nor produced by "
                    "an op."
                )
    for name in problem.outputs:
        if name not in producer and name not in problem.inputs:
            raise UsageError(f"Output {name!r} is neither an input nor produced by an op.")


def _check_constraints(problem: Problem, hosts: set[str], tensors: set[str], ops: set[str]) -> None:
    limits = problem.constraints
    for op, host in limits.pinned.items():
        _known("op", op, ops, "pinned")
        _known("host", host, hosts, f"pinned for op {op!r}")
    for op, forbidden_hosts in limits.forbidden.items():
        _known("op", op, ops, "forbidden")
        for host in forbidden_hosts:
            _known("host", host, hosts, f"forbidden for op {op!r}")
    for group in limits.together:
        for op in group:
            _known("op", op, ops, "together")
    for name in limits.keep_local:
        _known("tensor", name, tensors, "keep_local")
    for label, named in (("energy_j", limits.energy_j), ("max_segments", limits.max_segments)):
        for host in named:
            _known("host", host, hosts, label)
