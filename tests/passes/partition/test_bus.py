"""Plans over a shared medium: proven, priced at both ends, and sent directly."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from partc.errors import UsageError
from partc.ir.topology import Topology
from partc.optimizer import Problem, evaluate
from tests.support.narrowing import OPS, Seconds, narrowing, solved

PRICES: Seconds = {"phone": 0.004, "robot": 0.001, "server": 0.0002}


def cell(
    mbit_s: float = 40.0, hosts: tuple[str, ...] = ("phone", "robot", "server"), **more: Any
) -> Topology:
    medium = {"hosts": list(hosts), "bandwidth_mbit_s": mbit_s, "rtt_ms": 4, "fixed_ms": 1}
    return Topology.parse({"hosts": {name: {} for name in hosts}, "bus": [medium], **more})


def test_the_plan_is_the_best_of_all() -> None:
    """Three groups of ops over three hosts, by trying every way."""
    groups = [OPS[:2], OPS[2:6], OPS[6:]]
    topology = cell(constraints={"together": [list(g) for g in groups]})
    plan = solved(narrowing(topology, PRICES), topology).plan
    assert plan is not None
    problem = Problem.from_dict(plan.problem)
    every = []
    for hosts in itertools.product(topology.hosts, repeat=3):
        placement = {op: host for group, host in zip(groups, hosts, strict=True) for op in group}
        every.append(evaluate(problem, placement).latency_s)
    assert plan.certificate.predicted_s == pytest.approx(min(every))
    assert plan.certificate.status == "optimal"


def test_what_a_message_takes_is_paid_at_both_ends() -> None:
    topology = cell(constraints={"pin": {"server": ["*"]}})
    plan = solved(narrowing(topology, PRICES), topology).plan
    assert plan is not None
    bytes_per_s = 40e6 / 8
    there = 2 * 12288 / bytes_per_s + 0.002 + 0.001
    back = 2 * 40 / bytes_per_s + 0.002 + 0.001
    assert plan.certificate.predicted_s == pytest.approx(10 * 0.0002 + there + back)
    link = topology.link_between("phone", "server")
    alike = 12288 * 8e-6 / link.mbit_s("phone") + link.rtt_ms / 2e3 + 1e-3
    assert there == pytest.approx(alike), "the emulated link takes as long"


def test_what_passes_between_two_others_does_not_go_through_the_root() -> None:
    pins = {"phone": ["/stem/*"], "robot": ["/body*"], "server": ["/neck/*", "/head/*"]}
    topology = cell(constraints={"pin": pins})
    plan = solved(narrowing(topology, PRICES), topology).plan
    assert plan is not None
    ways = {(t.tensor, t.sender, t.receiver) for t in plan.transfers}
    assert ways == {
        ("/stem/Relu_out", "phone", "robot"),
        ("/body[0]/Relu_out", "robot", "server"),
        ("classes", "server", "phone"),
    }


def test_two_hosts_have_a_verdict_over_the_mediums_bandwidth() -> None:
    topology = cell(1.0, ("phone", "server"))
    plan = solved(narrowing(topology, PRICES), topology).plan
    assert plan is not None and plan.verdict is not None
    at = plan.verdict.break_even_mbit_s
    assert at is not None
    for mbit_s, alone in ((at * 0.97, True), (at * 1.03, False)):
        other = cell(mbit_s, ("phone", "server"))
        found = solved(narrowing(other, PRICES), other).plan
        assert found is not None
        assert (set(found.placement.values()) == {"phone"}) == alone
    assert any(point.bandwidth_mbit_s == 1.0 for point in plan.sweep)


def test_the_round_trip_from_which_it_would_pay() -> None:
    """Here the round trip is what keeps the phone alone."""
    data = cell(40.0, ("phone", "server")).model_dump(mode="json", exclude_none=True)
    data["bus"][0]["rtt_ms"] = 500
    topology = Topology.parse(data)
    plan = solved(narrowing(topology, PRICES), topology).plan
    assert plan is not None and plan.verdict is not None
    assert plan.verdict.choice == "device-only"
    at_ms = plan.verdict.break_even_rtt_ms
    assert at_ms is not None
    for rtt_ms, alone in ((at_ms * 1.03, True), (at_ms * 0.97, False)):
        data["bus"][0]["rtt_ms"] = rtt_ms
        other = Topology.parse(data)
        found = solved(narrowing(other, PRICES), other).plan
        assert found is not None
        assert (set(found.placement.values()) == {"phone"}) == alone


def test_a_portfolio_needs_links() -> None:
    topology = cell(conditions={"bandwidth_mbit_s": [1, 10]})
    with pytest.raises(UsageError, match="joined by links"):
        solved(narrowing(topology, PRICES), topology)
