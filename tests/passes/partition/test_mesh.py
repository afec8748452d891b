"""A device with two servers that are linked to each other, too."""

from __future__ import annotations

from partc.ir.topology import Topology
from partc.optimizer import solve
from partc.passes.partition.problem import placement_problem
from tests.support.narrowing import Seconds, narrowing

PRICES: Seconds = {"phone": 0.004, "near": 0.001, "far": 0.0002}


def triangle() -> Topology:
    links = [("phone", "near", 400), ("phone", "far", 4), ("near", "far", 1000)]
    return Topology.parse(
        {
            "hosts": {name: {} for name in PRICES},
            "links": [
                {"between": [one, other], "bandwidth_mbit_s": mbit_s, "rtt_ms": 1, "fixed_ms": 0.1}
                for one, other, mbit_s in links
            ],
        }
    )


def test_a_fast_way_round_is_taken() -> None:
    topology = triangle()
    problem = placement_problem(narrowing(topology, PRICES), topology)
    assert len(problem.links) == 3
    plan = solve(problem)
    assert plan.status == "optimal"
    assert set(plan.placement.values()) == {"far"}
    hops = [(t.source, t.destination) for t in plan.transfers]
    assert hops == [("phone", "near"), ("near", "far"), ("far", "near"), ("near", "phone")]
