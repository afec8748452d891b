"""A good first plan for throughput: the order of the ops in consecutive parts, one per host."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from partc.optimizer.problem import Host, Problem

_MOST_OPS = 600  # the table of parts is quadratic

Table = npt.NDArray[np.float64]


def balanced_split(problem: Problem) -> dict[str, str] | None:
    """The split of the ops' order that makes the largest host load smallest.

    Hosts take their parts in the order in which the problem lists them. On a bus the loads count
    transfers as the problem does; loads of links do not count. None for large problems, or when
    memory leaves no such split.
    """
    count = len(problem.ops)
    if not 0 < count <= _MOST_OPS:
        return None
    read, sent = _moved_bytes(problem)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    cuts: list[npt.NDArray[np.int64]] = []
    for host in problem.hosts:
        load = _loads(problem, host, read, sent)
        worst = np.maximum(best[:, None], load)
        cuts.append(worst.argmin(axis=0))
        best = worst.min(axis=0)
    if not np.isfinite(best[count]):
        return None
    ends = [count]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    ends.reverse()
    return {
        op.name: host.name
        for host, (start, end) in zip(problem.hosts, pairwise(ends), strict=True)
        for op in problem.ordered_ops[start:end]
    }


def _loads(problem: Problem, host: Host, read: Table, sent: Table) -> Table:
    """Load of the host for the part from op i to op j; infinite where it cannot have that part."""
    costs = np.array([op.cost_s.get(host.name, np.inf) for op in problem.ordered_ops])
    able = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(costs), costs, 0.0))])
    unable = np.concatenate([[0], np.cumsum(~np.isfinite(costs))])
    load = able[None, :] - able[:, None]
    load[unable[None, :] - unable[:, None] > 0] = np.inf
    if host.bus_seconds_per_byte is not None:
        load = load + (read + sent) * host.bus_seconds_per_byte
    if host.memory_bytes is not None:
        load[_weight_bytes(problem) > host.memory_bytes] = np.inf
    load[np.tril_indices(len(load), -1)] = np.inf
    return np.asarray(load)


def _moved_bytes(problem: Problem) -> tuple[Table, Table]:
    """Bytes that each part reads from elsewhere, and that it makes for elsewhere."""
    position = {op.name: index for index, op in enumerate(problem.ordered_ops)}
    size = len(position) + 1
    read, sent = np.zeros((size, size)), np.zeros((size, size))
    starts, ends = np.arange(size)[:, None], np.arange(size)[None, :]
    for tensor in problem.tensors:
        producer = problem.producer_of.get(tensor.name)
        readers = [position[op.name] for op in problem.consumers_of[tensor.name]]
        if producer is None or not readers or tensor.size_bytes == 0:
            continue
        at = position[producer.name]
        made_here = (starts <= at) & (at < ends)
        read_here = np.zeros((size, size), dtype=bool)
        for reader in readers:
            read_here |= (starts <= reader) & (reader < ends)
        read += np.where(~made_here & read_here, tensor.size_bytes, 0.0)
        sent += np.where(made_here & (ends <= max(readers)), tensor.size_bytes, 0.0)
    return read, sent


def _weight_bytes(problem: Problem) -> Table:
    """Bytes of weights of each part, counting a shared weight at its first op: a lower bound."""
    seen: set[str] = set()
    sizes = {weight.name: weight.size_bytes for weight in problem.weights}
    own = []
    for op in problem.ordered_ops:
        own.append(sum(sizes[name] for name in op.weights if name not in seen))
        seen.update(op.weights)
    total = np.concatenate([[0.0], np.cumsum(own)])
    return np.asarray(total[None, :] - total[:, None])
