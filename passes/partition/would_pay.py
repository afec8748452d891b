"""When the device alone is best: the round trip, or the server speed, from which it is not."""

from __future__ import annotations

import math
from collections.abc import Callable

from partc.errors import InfeasibleError
from partc.ir.topology import Topology
from partc.optimizer import Problem, break_even


def longest_round_trip_ms(problem: Problem, topology: Topology) -> float | None:
    """The round trip below which another host pays; None if not even at 0.

    The latency of a plan is a line in the round trip as it is in seconds per byte, so the search
    for a bandwidth finds it too, with the round trip 1 / x ms at "bandwidth" x.
    """
    declared = topology.bus[0] if topology.bus else topology.links[0]

    def at(x: float) -> Problem:
        rtt_ms = 0.0 if math.isinf(x) else 1.0 / x
        changed = (rtt_ms - declared.rtt_ms) * 0.5e-3
        if topology.bus:  # each end of a message takes its half
            hosts = [
                host.model_copy(
                    update={"bus_latency_s": max(0.0, host.bus_latency_s + changed / 2)}
                )
                for host in problem.hosts
            ]
            return problem.changed(hosts=tuple(hosts))
        there, back = problem.links[0].latency_s
        latencies_s = (max(0.0, there + changed), max(0.0, back + changed))
        first = problem.links[0].model_copy(update={"latency_s": latencies_s})
        return problem.changed(links=(first, *problem.links[1:]))

    found = _search(at)
    return None if found is None else (math.inf if found == 0 else 1.0 / found)


def slowest_server_speed(problem: Problem, device: str) -> float | None:
    """How many times faster than declared the servers must be to pay; None if never."""

    def at(x: float) -> Problem:
        ops = [
            op.model_copy(
                update={
                    "cost_s": {
                        host: seconds if host == device else seconds / x
                        for host, seconds in op.cost_s.items()
                    }
                }
            )
            for op in problem.ops
        ]
        return problem.changed(ops=tuple(ops))

    return _search(at)


def _search(at: Callable[[float], Problem]) -> float | None:
    try:
        return break_even(at).bandwidth_mbit_s
    except InfeasibleError:
        return None
