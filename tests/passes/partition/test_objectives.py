"""Latency, throughput and energy, from the plan to the sentence, and two of them at once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from partc.errors import TopologyError, UsageError
from partc.ir.topology import Topology
from partc.optimizer import Problem, evaluate
from partc.passes.partition.bandwidth import BandwidthStudy
from partc.passes.partition.pareto import pareto_objectives
from partc.passes.partition.problem import placement_problem
from tests.support.narrowing import OPS, Seconds, narrowing, solved
from tests.support.placements import CHAIN, STAR

COSTS: Seconds = {"camera": 0.004, "server": 0.001}


def powered(**constraints: Any) -> Topology:
    return Topology.parse(
        {
            "hosts": {
                "camera": {"power_active_w": 2.0, "power_idle_w": 0.5, "power_tx_w": 1.5},
                "server": {"power_active_w": 60.0},
            },
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20, "rtt_ms": 2}],
            "constraints": constraints,
        }
    )


def plan_for(objective: str, topology: Topology | None = None, **options: Any) -> Any:
    topology = topology or powered()
    plan = solved(narrowing(topology, COSTS), topology, objective=objective, **options).plan
    assert plan is not None
    return plan


def every_cut(problem: Problem) -> list[Any]:
    """Evaluations of all plans that change host at most twice; the model is one path."""
    found = []
    names = [op.name for op in problem.ops]
    for first, second in itertools.combinations_with_replacement(range(len(names) + 1), 2):
        for outer, inner in (("camera", "server"), ("server", "camera")):
            hosts = [inner if first <= i < second else outer for i in range(len(names))]
            found.append(evaluate(problem, dict(zip(names, hosts, strict=True))))
    return [each for each in found if not each.violations]


def test_latency() -> None:
    plan = plan_for("latency")
    proof = plan.certificate
    best = min(e.latency_s for e in every_cut(Problem.from_dict(plan.problem)))
    assert proof.predicted_s == pytest.approx(best) == pytest.approx(proof.latency_s)
    assert proof.bound_s == pytest.approx(best)
    assert (proof.status, proof.gap, proof.predicted_j, proof.bound_j) == (
        "optimal",
        0.0,
        None,
        None,
    )
    assert f"{best * 1e3:.1f} ms against 40.0 ms on camera alone" in plan.verdict.sentence


def test_throughput() -> None:
    """The slowest stage, and the time to fill the pipeline beside it."""
    plan = plan_for("throughput")
    proof = plan.certificate
    best = min(e.bottleneck_s for e in every_cut(Problem.from_dict(plan.problem)))
    assert proof.predicted_s <= best * (1 + 1e-9)
    assert proof.predicted_s == pytest.approx(proof.bound_s)
    assert proof.latency_s > proof.predicted_s
    named = {strategy.name: strategy for strategy in plan.strategies}
    assert named["optimal"].period_s == pytest.approx(proof.predicted_s)
    assert all(proof.predicted_s <= each.period_s * (1 + 1e-9) for each in plan.strategies)
    assert f"one request every {proof.predicted_s * 1e3:.1f} ms" in plan.verdict.sentence
    assert plan.verdict.break_even_mbit_s is None


def test_energy_of_named_hosts() -> None:
    plan = plan_for("energy", powered(energy_hosts=["camera"]))
    proof = plan.certificate
    cuts = every_cut(Problem.from_dict(plan.problem))
    best = min(e.energy_j["camera"] for e in cuts)
    assert proof.predicted_j == pytest.approx(best)
    assert proof.bound_j == pytest.approx(best)
    assert proof.bound_s == 0.0
    assert proof.predicted_s == proof.latency_s
    named = {strategy.name: strategy for strategy in plan.strategies}
    assert named["optimal"].energy_j == pytest.approx(best)
    assert " J against " in plan.verdict.sentence
    everything = plan_for("energy")
    assert set(everything.placement.values()) == {"camera"}, "the server draws too much to count"
    assert everything.certificate.predicted_j > best


def test_energy_under_a_deadline() -> None:
    """Of all plans in time, the one that takes the least."""
    topology = powered(deadline_ms=25)
    plan = plan_for("energy", topology)
    in_time = [e for e in every_cut(Problem.from_dict(plan.problem)) if e.latency_s <= 0.025]
    assert plan.certificate.latency_s <= 0.025 + 1e-9
    assert plan.certificate.predicted_j == pytest.approx(min(e.counted_energy_j for e in in_time))
    assert plan.certificate.predicted_j > plan_for("energy").certificate.predicted_j


@pytest.mark.parametrize("objective", ["latency", "throughput", "energy"])
@pytest.mark.parametrize("topology", [CHAIN, STAR], ids=["chain", "star"])
def test_side_by_side_is_never_slower(objective: str, topology: Topology) -> None:
    data = topology.model_dump(mode="json")
    for index, host in enumerate(data["hosts"].values()):
        host["power_active_w"] = 1.0 + index
    hosts = list(data["hosts"])
    data["constraints"] = {"pin": {hosts[1]: [OPS[2]], hosts[2]: [OPS[4]]}}
    topology = Topology.parse(data)
    seconds: Seconds = {host: 0.002 / (1 + i) for i, host in enumerate(hosts)}
    plan = solved(narrowing(topology, seconds), topology, objective=objective).plan
    assert plan is not None
    proof = plan.certificate
    assert proof.simulated_s is not None and proof.latency_s is not None
    assert 0 < proof.simulated_s <= proof.latency_s * (1 + 1e-9)
    assert set(plan.placement.values()) >= set(hosts[1:])
    assert proof.status == "optimal"


def test_a_pareto_front_has_all_trade_offs() -> None:
    plan = plan_for("latency", pareto="latency/energy")
    front = plan.pareto
    assert front.objectives == ("latency", "energy")
    values = [(p.latency_s, p.energy_j) for p in front.points]
    assert len(values) >= 2
    assert values == sorted(values)
    assert [e for _, e in values] == sorted((e for _, e in values), reverse=True)
    assert values[0][0] == pytest.approx(plan.certificate.predicted_s)
    cuts = every_cut(Problem.from_dict(plan.problem))
    assert values[-1][1] == pytest.approx(min(e.counted_energy_j for e in cuts))
    for latency_s, energy_j in values:
        better = [
            e
            for e in cuts
            if e.latency_s < latency_s * (1 - 1e-6) and e.counted_energy_j < energy_j * (1 - 1e-6)
        ]
        assert not better
    assert all(sum(p.blocks.values()) == len(OPS) for p in front.points)


def test_a_front_of_latency_and_throughput() -> None:
    plan = plan_for("latency", pareto="throughput/latency")
    values = [(p.period_s, p.latency_s) for p in plan.pareto.points]
    assert values[0][0] <= plan_for("throughput").certificate.predicted_s * (1 + 1e-6)
    assert values[-1][1] == pytest.approx(plan.certificate.predicted_s)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("latency", "two different objectives"),
        ("latency,latency", "two different objectives"),
        ("latency,energy,throughput", "two different objectives"),
        ("latency,enrgy", "Did you mean 'energy'"),
        ("", "objective"),
    ],
)
def test_a_front_of_nonsense(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        pareto_objectives(text)


def test_a_front_with_energy_needs_powers() -> None:
    with pytest.raises(TopologyError, match="no host has a power_active_w"):
        plan_for("latency", CHAIN_WITHOUT_POWER, pareto="latency/energy")


CHAIN_WITHOUT_POWER = Topology.parse(
    {
        "hosts": {"camera": {}, "server": {}},
        "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20}],
    }
)


@pytest.mark.parametrize("constraints", [{}, {"deadline_ms": 30}], ids=["free", "deadline"])
def test_the_curve_over_bandwidth_is_the_optimum_at_each_point(constraints: Any) -> None:
    """Though not each point is solved: what is best at two bandwidths is best between them."""
    topology = powered(**constraints)
    plan = plan_for("latency", topology)
    study = BandwidthStudy(narrowing(topology, COSTS), topology)
    solved_points = 0
    for point in plan.sweep:
        best = min(
            (e.latency_s for e in every_cut(study.problem_at(point.bandwidth_mbit_s))),
            default=None,
        )
        if best is None:
            assert "optimal" not in point.predicted_s
            continue
        solved_points += 1
        assert point.predicted_s["optimal"] == pytest.approx(best)
    assert solved_points == len(plan.sweep) or constraints


@pytest.mark.parametrize(
    ("objective", "constraints"),
    [("throughput", {}), ("latency", {"deadline_ms": 30}), ("energy", {"deadline_ms": 30})],
)
def test_nothing_is_said_of_bandwidths_that_were_not_examined(
    objective: str, constraints: dict[str, Any]
) -> None:
    verdict = plan_for(objective, powered(**constraints)).verdict
    assert not verdict.bandwidths_examined
    assert verdict.break_even_mbit_s is verdict.split_range_mbit_s is None
    assert "No bandwidth" not in verdict.sentence
    assert plan_for("latency").verdict.bandwidths_examined


@pytest.mark.parametrize("declared_mbit_s", [0.01, 0.3, 3.0, 30.0, 3000.0])
def test_no_sentence_contradicts_the_plan(declared_mbit_s: float) -> None:
    data = powered().model_dump(mode="json", exclude_none=True)
    data["links"][0]["bandwidth_mbit_s"] = declared_mbit_s
    verdict = plan_for("latency", Topology.parse(data)).verdict
    if verdict.split_range_mbit_s is not None:
        low, high = verdict.split_range_mbit_s
        inside = low < declared_mbit_s < (high or float("inf"))
        assert inside == verdict.split
    if verdict.break_even_mbit_s is not None:
        leaves = verdict.choice != "device-only"
        assert leaves == (declared_mbit_s > verdict.break_even_mbit_s)


def test_a_request_costs_the_same_beyond_every_plan_and_nothing_in_a_pipeline() -> None:
    topology = powered()
    program = narrowing(topology, COSTS)
    assert program.costs is not None and program.blocks is not None
    message = replace(program.costs.message, request_fixed_s=0.003)
    dearer = replace(program, costs=replace(program.costs, message=message))
    blocks = [block.name for block in program.blocks]
    for kept in range(len(blocks) + 1):
        hosts = ["camera"] * kept + ["server"] * (len(blocks) - kept)
        placement = dict(zip(blocks, hosts, strict=True))
        for objective, more_s in (("latency", 0.003), ("energy", 0.003), ("throughput", 0.0)):
            before, after = (
                evaluate(placement_problem(each, topology, objective=objective), placement)
                for each in (program, dearer)
            )
            assert after.latency_s - before.latency_s == pytest.approx(more_s)
