"""Contiguous pipelines on a bus, by a dynamic program over the downsets of the graph.

A downset holds all that its ops read from. Hosts in an order take the steps of a chain of downsets
(Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators", NeurIPS
2020); on a bus a host's load depends on its own step alone. A graph that is near a chain has few
downsets, so all chains are tried.

`contiguous` also allows hosts that wait for each other in a ring, which have no order. Each of
them has its ops between two ops that lie on every path: were such an op on one of them, or two of
their ops on both sides of it, a path would leave a host and come back. So at least two hosts do
nothing outside of one such stretch, and the others have the rest of the work: a bound for all
plans without an order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from partc.optimizer.instance import Instance, Net
from partc.optimizer.problem import Problem

_MOST_DOWNSETS = 2000
_MOST_WORK = 3e9  # pairs of downsets, times tensors and hosts left to use
_MOST_WORK_WITHOUT_PROOF = 1e8

Table = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Chain:
    """The best plan whose hosts have an order, and what no plan is below.

    Attributes:
        host_of_unit: host of each unit; None where no chain of downsets is legal.
        bound_s: no contiguous plan, with an order or without, has a smaller largest load.
    """

    host_of_unit: list[int] | None
    bound_s: float


def applies(problem: Problem) -> bool:
    """Whether a host's load, memory and legality depend on its own ops alone."""
    limits = problem.constraints
    return (
        problem.objective == "throughput"
        and limits.contiguous
        and problem.bus is not None
        and not problem.bus.shared
        and not problem.codecs
        and not limits.monotone
        and not limits.activations
        and not limits.energy_j
        and limits.deadline_s is None
    )


def best_chain(instance: Instance) -> Chain | None:
    """The best chain of downsets; None where that is too much work.

    The problem must be one to which this `applies`.
    """
    merged = _merged_rings(instance)
    downsets = _downsets(instance, merged)
    if downsets is None:
        return None
    kinds = _kinds(instance)
    no_order_s = _least_without_order(instance.problem)
    states = math.prod(len(hosts) + 1 for hosts in kinds)
    work = float(len(downsets)) ** 2 * (states + len(instance.nets)) * len(kinds)
    if work > (_MOST_WORK if no_order_s > 0 else _MOST_WORK_WITHOUT_PROOF):
        return None
    loads = [_loads(instance, downsets, hosts[0]) for hosts in kinds]
    steps, largest_s = _best_steps(loads, [len(hosts) for hosts in kinds])
    bound_s = min(largest_s, no_order_s)
    if steps is None:
        return Chain(None, bound_s)
    left = [list(hosts) for hosts in kinds]
    host_of_unit = [-1] * len(instance.cost_s)
    for kind, before, after in steps:
        host = left[kind].pop()
        for unit in np.flatnonzero(downsets[after] & ~downsets[before]):
            host_of_unit[int(unit)] = host
    return Chain(host_of_unit, bound_s)


def _before(instance: Instance) -> list[int]:
    """For each unit, a bit for each unit that it reads from."""
    before = [0] * len(instance.cost_s)
    for net in instance.nets:
        if net.source_unit is not None:
            for reader in net.reader_units:
                before[reader] |= 1 << net.source_unit
    return before


def _merged_rings(instance: Instance) -> list[int]:
    """For each unit, bits of the units that it shares a host with, since a path ties them."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(instance.cost_s)))
    for net in instance.nets:
        if net.source_unit is not None:
            graph.add_edges_from((net.source_unit, reader) for reader in net.reader_units)
    merged = [0] * len(instance.cost_s)
    for ring in nx.strongly_connected_components(graph):
        bits = sum(1 << unit for unit in ring)
        for unit in ring:
            merged[unit] = bits
    return merged


def _downsets(instance: Instance, merged: list[int]) -> Mask | None:
    """All downsets as rows, from the empty one to the full one; None if there are too many."""
    units = len(instance.cost_s)
    before = _before(instance)
    needs = dict.fromkeys(merged, 0)  # what a ring reads from outside of itself
    for unit, bits in enumerate(merged):
        needs[bits] |= before[unit] & ~bits
    found = {0}
    stack = [0]
    while stack:
        inside = stack.pop()
        for bits, need in needs.items():
            if not inside & bits and not need & ~inside and inside | bits not in found:
                found.add(inside | bits)
                stack.append(inside | bits)
                if len(found) > _MOST_DOWNSETS:
                    return None
    rows = [
        [inside >> unit & 1 for unit in range(units)]
        for inside in sorted(found, key=lambda bits: (bits.bit_count(), bits))
    ]
    return np.array(rows, dtype=bool).reshape(len(rows), units)


def _kinds(instance: Instance) -> list[list[int]]:
    """Hosts that are alike in every respect are one kind."""
    problem = instance.problem
    kinds: dict[tuple[object, ...], list[int]] = {}
    for index, host in enumerate(problem.hosts):
        homes = [net.tensor for net in instance.nets if net.source_host == index]
        wanted = [net.tensor for net in instance.nets if index in net.reader_hosts]
        extra = [(t.name, t.extra_s[host.name]) for t in problem.tensors if host.name in t.extra_s]
        costs = tuple(unit.get(index) for unit in instance.cost_s)
        own = (host.memory_bytes, host.bus_seconds_per_byte, host.bus_latency_s)
        kinds.setdefault((own, costs, tuple(homes), tuple(wanted), tuple(extra)), []).append(index)
    return list(kinds.values())


def _loads(instance: Instance, downsets: Mask, host: int) -> Table:
    """Load of the host for the step from downset i to j; infinite where it may not take it."""
    problem = instance.problem
    held = downsets.astype(float)
    able = np.array([unit.get(host, 0.0) for unit in instance.cost_s])
    unable = np.array([host not in unit for unit in instance.cost_s], dtype=float)
    compute = (held @ able)[None, :] - (held @ able)[:, None]
    port = np.zeros_like(compute)
    for net in instance.nets:
        _add_net(instance, net, downsets, host, port)
    assert problem.bus is not None
    load = compute + port if problem.bus.serial else np.maximum(compute, port)
    inside = held @ held.T >= held.sum(axis=1)[:, None] - 0.5
    load[~inside | ((held @ unable)[None, :] - (held @ unable)[:, None] > 0.5)] = np.inf
    memory_bytes = problem.hosts[host].memory_bytes
    if memory_bytes is not None:
        load[_weight_bytes(instance, downsets) > memory_bytes] = np.inf
    if problem.constraints.period_s is not None:
        load[load > problem.constraints.period_s] = np.inf
    return np.asarray(load)


def _add_net(instance: Instance, net: Net, downsets: Mask, host: int, port: Table) -> None:
    """What the host pays for putting one tensor on the bus, or for taking it from there."""
    data = instance.problem.hosts[host]
    assert data.bus_seconds_per_byte is not None
    wire_s = net.size_bytes * data.bus_seconds_per_byte
    shares = instance.problem.tensor_by_name[net.tensor].shares_message
    put_s = wire_s + (0.0 if shares else data.bus_latency_s)
    take_s = wire_s + instance.fixed_s(net.tensor, host, data.bus_latency_s)
    if put_s == 0.0 and take_s == 0.0:
        return
    readers = list(net.reader_units)
    read = downsets[:, readers].sum(axis=1)
    readers_here = read[None, :] - read[:, None]
    if net.source_unit is None:
        made_here = np.full(port.shape, net.source_host == host)
    else:
        made = downsets[:, net.source_unit]
        made_here = made[None, :] & ~made[:, None]
    read_away = (readers_here < len(readers)) | any(away != host for away in net.reader_hosts)
    read_here = (readers_here > 0) | (host in net.reader_hosts)
    port += put_s * (made_here & read_away) + take_s * (~made_here & read_here)


def _weight_bytes(instance: Instance, downsets: Mask) -> Table:
    """Bytes of the weights of each step, a shared one once."""
    users: dict[str, set[int]] = {}
    for op in instance.problem.ops:
        for name in op.weights:
            users.setdefault(name, set()).add(instance.unit_of[op.name])
    alone = np.zeros(downsets.shape[1])
    total = np.zeros((len(downsets), len(downsets)))
    for weight in instance.problem.weights:
        units = sorted(users.get(weight.name, ()))
        if len(units) == 1:
            alone[units[0]] += weight.size_bytes
        elif units:
            used = downsets[:, units].sum(axis=1)
            total += weight.size_bytes * (used[None, :] != used[:, None])
    before = downsets.astype(float) @ alone
    return np.asarray(total + before[None, :] - before[:, None])


def _best_steps(
    loads: list[Table], counts: list[int]
) -> tuple[list[tuple[int, int, int]] | None, float]:
    """The chain with the smallest largest load, as (kind of host, from, to); and that load."""
    size = len(loads[0])
    start = np.full(size, np.inf)
    start[0] = 0.0
    best: dict[tuple[int, ...], Table] = {(0,) * len(counts): start}
    way: dict[tuple[int, ...], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
    for state in itertools.product(*(range(count + 1) for count in counts)):
        if not any(state):
            continue
        value = np.full(size, np.inf)
        kind_of = np.zeros(size, dtype=np.int64)
        origin = np.zeros(size, dtype=np.int64)
        for kind, load in enumerate(loads):
            if not state[kind]:
                continue
            fewer = tuple(n - (k == kind) for k, n in enumerate(state))
            worst = np.maximum(best[fewer][:, None], load)
            cut = worst.argmin(axis=0)
            reached = worst[cut, np.arange(size)]
            better = reached < value
            value[better] = reached[better]
            kind_of[better] = kind
            origin[better] = cut[better]
        best[state] = value
        way[state] = (kind_of, origin)
    state, at = tuple(counts), size - 1
    largest_s = float(best[state][at])
    if not math.isfinite(largest_s):
        return None, math.inf
    steps = []
    while any(state):
        kind, before = int(way[state][0][at]), int(way[state][1][at])
        steps.append((kind, before, at))
        state, at = tuple(n - (k == kind) for k, n in enumerate(state)), before
    return steps, largest_s


def _least_without_order(problem: Problem) -> float:
    """What the largest load is at least when some hosts wait for each other in a ring."""
    hosts = len(problem.hosts)
    if hosts < 2:
        return math.inf
    order = problem.ordered_ops
    position = {op.name: index for index, op in enumerate(order)}
    above = [0] * len(order)
    for index, op in enumerate(order):
        for tensor in op.inputs:
            maker = problem.producer_of.get(tensor)
            if maker is not None:
                above[index] |= above[position[maker.name]] | 1 << position[maker.name]
    below = [0] * len(order)
    for index, bits in enumerate(above):
        for before in range(index):
            if bits >> before & 1:
                below[before] += 1
    on_every_path = [
        index
        for index in range(len(order))
        if above[index].bit_count() + below[index] == len(order) - 1
    ]
    least_s = [min(op.cost_s.values(), default=math.inf) for op in order]
    total_s = math.fsum(least_s)
    # An op on every path has all others before or after it in any order.
    stretches = [range(a + 1, b) for a, b in pairwise([-1, *on_every_path, len(order)])]
    best_s = math.inf
    for stretch in stretches:
        if len(stretch) < 4:  # two hosts that wait for each other have two ops each
            continue
        rest_s = total_s - math.fsum(least_s[index] for index in stretch)
        if len(stretch) < len(order):
            best_s = min(best_s, rest_s / (hosts - 2) if hosts > 2 else math.inf)
        else:
            best_s = 0.0
    return best_s
