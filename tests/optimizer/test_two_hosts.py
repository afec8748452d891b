"""On two hosts the relaxation, the minimum cut and the flow agree."""

from __future__ import annotations

import math
import random

import networkx as nx
import pytest

from partc.errors import UsageError
from partc.optimizer import Problem, break_even, evaluate, minimum_cut, solve
from partc.optimizer.cbc import run_cbc
from partc.optimizer.highs import run_highs
from partc.optimizer.instance import build_instance
from partc.optimizer.models import build_model
from partc.optimizer.reducing import reduce_pair
from tests.optimizer.random_problems import brute_force, random_problem


def _pure(seed: int, ops: int = 30, unit_s: float = 1.0) -> Problem:
    return Problem.from_dict(random_problem(seed, ops=ops, unit_s=unit_s))


def _link(bandwidth_mbit_s: float) -> dict[str, object]:
    return {"between": ["a", "b"], "seconds_per_byte": [8e-6 / bandwidth_mbit_s] * 2}


@pytest.mark.parametrize("monotone", [False, True])
def test_relaxation_equals_minimum_cut_equals_cbc(monotone: bool) -> None:
    proven = 0
    for seed in range(25):
        problem = _pure(seed).constrained(monotone=monotone)
        cut = minimum_cut(problem)
        if cut.status == "infeasible":
            assert solve(problem).status == "infeasible"
            continue
        proven += 1
        model = build_model(build_instance(problem), 1.0)
        relaxed = run_highs(model.linear.arrays(), integer=False, time_limit_s=None, gap=0.0)
        assert cut.status == "optimal"
        assert relaxed.objective == pytest.approx(cut.objective, rel=1e-7)
        assert solve(problem).objective == pytest.approx(cut.objective, rel=1e-7)
        if seed % 5 == 0:
            second = run_cbc(model.linear, time_limit_s=None, gap=0.0)
            assert second.objective == pytest.approx(cut.objective, rel=1e-6)
    assert proven >= 5


@pytest.mark.parametrize("monotone", [False, True])
def test_the_reduced_problem_has_the_same_optimum(monotone: bool) -> None:
    removed = 0
    for seed in range(60):
        data = random_problem(seed, ops=30)
        generator = random.Random(seed)
        for k, op in enumerate(data["ops"]):  # mostly chains
            if k and generator.random() < 0.7:
                op["inputs"] = [f"t{k - 1}"]
        data["codecs"] = [{"name": "half", "ratio": 0.5, "encode_s_per_byte": 0.2}]
        data["constraints"] = {"monotone": monotone, "together": [["op3", "op9"]]}
        problem = Problem.from_dict(data)
        cut = minimum_cut(problem)
        if cut.status == "infeasible":
            continue
        whole = build_instance(problem)
        reduction = reduce_pair(whole)
        removed += len(whole.cost_s) - len(reduction.instance.cost_s)
        model = build_model(reduction.instance, 1.0)
        relaxed = run_highs(model.linear.arrays(), integer=False, time_limit_s=None, gap=0.0)
        assert relaxed.objective == pytest.approx(cut.objective, rel=1e-7)
        assert relaxed.values is not None
        hosts = reduction.expand(model.host_of_unit(relaxed.values))
        plan = evaluate(problem, whole.placement(hosts), reduction.codecs)
        assert not plan.violations
        assert plan.objective == pytest.approx(cut.objective, rel=1e-7)
    assert removed > 300


def test_minimum_cut_equals_networkx() -> None:
    for seed in range(10):
        problem = _pure(seed)
        graph = nx.DiGraph()
        for op in problem.ops:
            graph.add_edge("h0", op.name, capacity=op.cost_s.get("h1", math.inf))
            graph.add_edge(op.name, "h1", capacity=op.cost_s.get("h0", math.inf))
        link = problem.links[0]
        for tensor in problem.tensors:
            maker = problem.producer_of.get(tensor.name)
            source = maker.name if maker else problem.inputs[tensor.name]
            readers = [op.name for op in problem.consumers_of[tensor.name]]
            readers += [problem.outputs[tensor.name]] if tensor.name in problem.outputs else []
            price = [
                tensor.size_bytes * link.seconds_per_byte[k]
                + (0.0 if tensor.shares_message else link.latency_s[k])
                + tensor.extra_s.get(receiver, 0.0)
                for k, receiver in enumerate(["h1", "h0"])
            ]
            graph.add_edge(source, f"out {tensor.name}", capacity=price[0])
            graph.add_edge(f"back {tensor.name}", source, capacity=price[1])
            for reader in readers:
                graph.add_edge(f"out {tensor.name}", reader, capacity=math.inf)
                graph.add_edge(reader, f"back {tensor.name}", capacity=math.inf)
        value, _ = nx.minimum_cut(graph, "h0", "h1")
        assert minimum_cut(problem).objective == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("unit_s", [1e-7, 1e-3, 60.0])
def test_flow_proves_the_cut_at_any_scale(unit_s: float) -> None:
    for seed in range(10):
        cut = minimum_cut(_pure(seed, unit_s=unit_s))
        assert cut.status == "optimal"
        assert cut.gap == 0.0


def test_costs_from_microseconds_to_minutes_in_one_problem() -> None:
    """A rounding relative to the largest cost would lose the small ones."""
    for seed in range(20):
        data = random_problem(seed, ops=8)
        for index, op in enumerate(data["ops"]):
            size = (1e-6, 1e-3, 60.0)[index % 3]
            op["cost_s"] = {host: cost * size for host, cost in op["cost_s"].items()}
        data["links"][0]["seconds_per_byte"] = [1e-6, 1e-6]
        data["links"][0]["latency_s"] = [1e-5, 1e-5]
        problem = Problem.from_dict(data)
        best, _, _ = brute_force(problem)
        assert minimum_cut(problem).objective == pytest.approx(best, rel=1e-8)
        assert solve(problem).objective == pytest.approx(best, rel=1e-6)


def test_a_tiny_optimum_beside_huge_alternatives() -> None:
    problem = Problem.from_dict(
        {
            "hosts": [{"name": "a"}, {"name": "b"}],
            "links": [{"between": ["a", "b"], "seconds_per_byte": [1e-9, 1e-9]}],
            "ops": [
                {"name": "p", "inputs": ["x"], "outputs": ["y"], "cost_s": {"a": 2e-6, "b": 100}},
                {"name": "q", "inputs": ["y"], "outputs": ["z"], "cost_s": {"a": 100, "b": 3e-6}},
            ],
            "tensors": [{"name": name, "size_bytes": 10} for name in "xyz"],
            "inputs": {"x": "a"},
            "outputs": {"z": "b"},
        }
    )
    answer = solve(problem)
    assert answer.status == "optimal"
    assert answer.objective == pytest.approx(2e-6 + 3e-6 + 1e-8, rel=1e-9)


def test_minimum_cut_refuses_what_it_cannot_solve() -> None:
    problem = _pure(1).constrained(deadline_s=10.0)
    with pytest.raises(UsageError, match="it has a deadline"):
        minimum_cut(problem)


def test_break_even_and_split_ranges_against_a_sweep() -> None:
    never = 0
    for seed in range(25):
        data = random_problem(seed, ops=8, outputs_anywhere=False)

        def at(bandwidth_mbit_s: float, data: dict[str, object] = data) -> Problem:
            s_per_byte = 8e-6 / bandwidth_mbit_s
            link = {
                "between": ["h0", "h1"],
                "seconds_per_byte": [s_per_byte, 0.7 * s_per_byte],
                "latency_s": [0.3, 0.1],
            }
            return Problem.from_dict(data | {"links": [link]})

        found = break_even(at)
        never += found.bandwidth_mbit_s is None
        for step in range(40):
            bandwidth = 10 ** (-7 + 0.2 * step)
            problem = at(bandwidth)
            best = minimum_cut(problem).objective
            alone = [
                evaluate(problem, {op.name: host for op in problem.ops}) for host in ("h0", "h1")
            ]
            costs = [math.inf if one.violations else one.objective for one in alone]
            assert best is not None
            beaten = best < costs[0] * (1 - 1e-6)
            expected = found.bandwidth_mbit_s is not None and bandwidth > found.bandwidth_mbit_s
            assert beaten == expected
            split = best < min(costs) * (1 - 1e-6)
            assert split == any(low < bandwidth < high for low, high in found.split_mbit_s)
    assert never < 25


def test_break_even_is_none_when_the_device_always_wins() -> None:
    def at(bandwidth_mbit_s: float) -> Problem:
        return Problem.from_dict(
            {
                "hosts": [{"name": "a"}, {"name": "b"}],
                "links": [
                    {"between": ["a", "b"], "seconds_per_byte": [8e-6 / bandwidth_mbit_s] * 2}
                ],
                "ops": [
                    {"name": "p", "inputs": ["x"], "outputs": ["y"], "cost_s": {"a": 1, "b": 1}}
                ],
                "tensors": [{"name": "x", "size_bytes": 8}, {"name": "y", "size_bytes": 8}],
                "inputs": {"x": "a"},
                "outputs": {"y": "a"},
            }
        )

    found = break_even(at)
    assert found.bandwidth_mbit_s is None
    assert found.split_mbit_s == ()


def test_break_even_by_hand() -> None:
    """10 s on the device; 2 s and 8 MB to send on the server: even at 1 byte per microsecond."""

    def at(bandwidth_mbit_s: float) -> Problem:
        return Problem.from_dict(
            {
                "hosts": [{"name": "a"}, {"name": "b"}],
                "links": [
                    {"between": ["a", "b"], "seconds_per_byte": [8e-6 / bandwidth_mbit_s] * 2}
                ],
                "ops": [
                    {"name": "p", "inputs": ["x"], "outputs": ["y"], "cost_s": {"a": 10, "b": 2}}
                ],
                "tensors": [{"name": "x", "size_bytes": 8e6}, {"name": "y", "size_bytes": 0}],
                "inputs": {"x": "a"},
                "outputs": {"y": "a"},
            }
        )

    assert break_even(at).bandwidth_mbit_s == pytest.approx(8.0, rel=1e-9)


def test_free_ops_still_respect_where_they_can_run() -> None:
    data = random_problem(5, ops=4)
    for k, op in enumerate(data["ops"]):
        op["inputs"] = [f"t{k - 1}"] if k else ["x"]
        op["cost_s"] = {"h1": 0} if k == 0 else {"h0": 0, "h1": 0}
    data["links"][0]["latency_s"] = [0, 0]
    data["links"][0]["seconds_per_byte"] = [0, 0]
    for tensor in data["tensors"]:
        tensor.pop("extra_s", None)
    for monotone in (False, True):
        problem = Problem.from_dict(data).constrained(monotone=monotone)
        for answer in (minimum_cut(problem), solve(problem)):
            assert (answer.status, answer.objective) == ("optimal", 0.0)
            assert answer.placement["op0"] == "h1"


def test_a_host_alone_with_a_codec_is_no_split() -> None:
    """With the input in a tenth of its bytes, the server alone is best where nothing else is."""

    def at(mbit_s: float) -> Problem:
        seconds_per_byte = 0.0 if mbit_s == float("inf") else 8e-6 / mbit_s
        return Problem.from_dict(
            {
                "hosts": [{"name": "camera"}, {"name": "server"}],
                "links": [
                    {
                        "between": ["camera", "server"],
                        "seconds_per_byte": [seconds_per_byte, seconds_per_byte],
                    }
                ],
                "ops": [
                    {
                        "name": "op",
                        "inputs": ["x"],
                        "outputs": ["y"],
                        "cost_s": {"camera": 0.1, "server": 0.01},
                    }
                ],
                "tensors": [
                    {"name": "x", "size_bytes": 100_000},
                    {"name": "y", "size_bytes": 0},
                ],
                "inputs": {"x": "camera"},
                "outputs": {"y": "camera"},
                "codecs": [{"name": "small", "ratio": 0.1}],
            }
        )

    found = break_even(at)
    # 80 kbit in the 90 ms that the server saves.
    assert found.bandwidth_mbit_s == pytest.approx(0.08 / 0.09, rel=1e-6)
    assert found.split_mbit_s == ()
