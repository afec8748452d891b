"""Links that close rings: which way a tensor takes, and what is paid once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import networkx as nx
import pytest

from partc.errors import UsageError
from partc.optimizer import Conditions, Problem, break_even, evaluate, portfolio, solve
from partc.optimizer.conditions import Point
from partc.optimizer.highs import run_highs
from partc.optimizer.instance import build_instance
from partc.optimizer.mesh_model import MeshModel
from partc.optimizer.models import build_model
from partc.optimizer.routes import Routes
from partc.optimizer.tree_model import TreeModel
from tests.optimizer.random_problems import brute_force, random_problem


def triangle(**changes: Any) -> Problem:
    """A camera, two servers, all linked; x -> a -> b -> camera."""
    data: dict[str, Any] = {
        "hosts": [{"name": "camera"}, {"name": "s1"}, {"name": "s2"}],
        "links": [link("camera", "s1", 0.1), link("camera", "s2", 1.0), link("s1", "s2", 0.1)],
        "ops": [
            {
                "name": "a",
                "inputs": ["x"],
                "outputs": ["t"],
                "cost_s": {"camera": 90, "s1": 1, "s2": 50},
            },
            {
                "name": "b",
                "inputs": ["t", "x"],
                "outputs": ["y"],
                "cost_s": {"camera": 90, "s1": 50, "s2": 1},
            },
        ],
        "tensors": [
            {"name": "x", "size_bytes": 30},
            {"name": "t", "size_bytes": 20},
            {"name": "y", "size_bytes": 10},
        ],
        "inputs": {"x": "camera"},
        "outputs": {"y": "camera"},
    }
    return Problem.from_dict(data | changes)


def link(one: str, other: str, s_per_byte: float, latency_s: float = 0.0) -> dict[str, Any]:
    return {
        "between": [one, other],
        "seconds_per_byte": [s_per_byte, s_per_byte],
        "latency_s": [latency_s, latency_s],
    }


def test_a_ring_by_hand() -> None:
    answer = solve(triangle())
    assert answer.placement == {"a": "s1", "b": "s2"}
    # x goes to s1 and on to s2, t straight to s2, y over s1 back to the camera.
    assert [(t.tensor, t.source, t.destination) for t in answer.transfers] == [
        ("x", "camera", "s1"),
        ("x", "s1", "s2"),
        ("t", "s1", "s2"),
        ("y", "s2", "s1"),
        ("y", "s1", "camera"),
    ]
    assert answer.objective == pytest.approx(1 + 1 + 3 + 3 + 2 + 1 + 1)
    assert answer.status == "optimal"


def test_the_direct_link_is_taken_when_it_is_not_worse() -> None:
    short = [link("camera", "s1", 0.1), link("s1", "s2", 0.1)]
    for s_per_byte, direct in ((0.2, True), (0.2000001, False), (0.1, True)):
        problem = triangle(links=[*short, link("camera", "s2", s_per_byte)])
        assert (len(Routes(problem).path("camera", "s2")) == 1) is direct


def test_prescribed_routes_are_taken() -> None:
    problem = triangle(routes=[["camera", "s2", "s1"]])
    assert Routes(problem).path("camera", "s2") == [("camera", "s2")]
    assert Routes(problem).path("camera", "s1") == [("camera", "s2"), ("s2", "s1")]
    assert Routes(problem).path("s1", "camera") == [("s1", "camera")]
    assert solve(problem).objective == pytest.approx(brute_force(problem)[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"routes": [["camera"]]}, "two or more different hosts"),
        ({"routes": [["camera", "s1", "camera"]]}, "two or more different hosts"),
        ({"routes": [["camera", "s3"]]}, "Did you mean 's"),
        ({"routes": [["camera", "s2", "s1"], ["camera", "s1"]]}, "may part, but not meet"),
        (
            {"links": [link("camera", "s1", 1), link("s1", "s2", 1)], "routes": [["camera", "s2"]]},
            "no link joins 'camera' and 's2'",
        ),
        (
            {"links": [link("camera", "s1", 1), link("s1", "s2", 1), link("s2", "s1", 2)]},
            "linked twice",
        ),
    ],
)
def test_wrong_routes_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        triangle(**change)


def test_ways_are_the_cheapest_and_from_one_host_a_tree() -> None:
    several = 0
    for seed in range(60):
        problem = Problem.from_dict(random_problem(seed, hosts=5, ops=6, shape="mesh"))
        mean = sum(t.size_bytes for t in problem.tensors) / len(problem.tensors)
        graph = nx.DiGraph()
        for edge in problem.links:
            for k, (a, b) in enumerate([edge.between, edge.between[::-1]]):
                graph.add_edge(a, b, s=mean * edge.seconds_per_byte[k] + edge.latency_s[k])
        routes = Routes(problem)
        for a, b in itertools.permutations(problem.host_names, 2):
            path = routes.path(a, b)
            assert [path[0][0], path[-1][1]] == [a, b]
            length = sum(graph.edges[hop]["s"] for hop in path)
            assert length == pytest.approx(nx.shortest_path_length(graph, a, b, weight="s"))
            several += len(path) > 1
            for k in range(1, len(path)):
                assert routes.path(a, path[k][0]) == path[:k]
        assert Routes(problem.changed(routes=routes.all())).all() == routes.all()
    assert several > 50


def test_each_hop_is_paid_once_and_only_from_where_the_tensor_arises() -> None:
    """Random placements, priced anew from networkx's reading of the routes."""
    for seed in range(60):
        problem = Problem.from_dict(random_problem(seed, hosts=4, ops=8, shape="ring"))
        generator = random.Random(seed)
        placement = {op.name: generator.choice(list(op.cost_s)) for op in problem.ops}
        price = {
            pair: (edge.seconds_per_byte[k], edge.latency_s[k])
            for edge in problem.links
            for k, pair in enumerate([edge.between, edge.between[::-1]])
        }
        expected = sum(op.cost_s[placement[op.name]] for op in problem.ops)
        for tensor in problem.tensors:
            maker = problem.producer_of.get(tensor.name)
            source = placement[maker.name] if maker else problem.inputs[tensor.name]
            readers = {placement[op.name] for op in problem.consumers_of[tensor.name]}
            readers |= {problem.outputs[tensor.name]} if tensor.name in problem.outputs else set()
            hops = {h for r in readers - {source} for h in Routes(problem).path(source, r)}
            for hop in hops:
                latency_s = 0.0 if tensor.shares_message else price[hop][1]
                expected += tensor.size_bytes * price[hop][0] + latency_s
                expected += tensor.extra_s.get(hop[1], 0.0)
        assert evaluate(problem, placement).latency_s == pytest.approx(expected)


def test_a_tree_keeps_its_model_and_a_mesh_model_of_it_agrees() -> None:
    for seed in range(40):
        data = random_problem(seed, hosts=3, ops=7, shape="star" if seed % 2 else "chain")
        if seed % 3 == 0:
            data["constraints"]["monotone"] = True
        instance = build_instance(Problem.from_dict(data))
        assert isinstance(build_model(instance, 1.0), TreeModel)
        objectives = []
        for kind in (TreeModel, MeshModel):
            arrays = kind(instance, 1.0).linear.arrays()
            raw = run_highs(arrays, integer=True, time_limit_s=None, gap=0.0)
            objectives.append(raw.objective)
        assert objectives[0] == pytest.approx(objectives[1])


def test_monotone_may_pass_on_between_equals_and_not_back() -> None:
    problem = triangle(outputs={}).constrained(monotone=True)
    assert not evaluate(problem, {"a": "s1", "b": "s2"}).violations
    assert not evaluate(problem, {"a": "s2", "b": "s1"}).violations
    back = evaluate(problem, {"a": "s1", "b": "camera"})
    assert "goes back from 's1'" in back.violations[0]


def test_a_portfolio_keeps_its_routes() -> None:
    data = random_problem(4, hosts=3, ops=6, shape="ring", outputs_anywhere=False)
    problem = Problem.from_dict(data)
    found = portfolio(problem, Conditions((0.5, 50.0), (0.1, 3.0)), accuracy=0.0)
    fixed = problem.changed(routes=Routes(problem).all())
    base = problem.links[0]
    for mbit_s, rtt_s in itertools.product((0.5, 3.0, 50.0), (0.1, 1.0, 3.0)):
        factor = 8e-6 / mbit_s / base.seconds_per_byte[0]
        wait = rtt_s / sum(base.latency_s)
        links = tuple(
            edge.model_copy(
                update={
                    "seconds_per_byte": tuple(s * factor for s in edge.seconds_per_byte),
                    "latency_s": tuple(s * wait for s in edge.latency_s),
                }
            )
            for edge in fixed.links
        )
        best = solve(fixed.changed(links=links)).objective
        assert best is not None
        point = Point(mbit_s, rtt_s)
        assert found.best_at(point).cost.latency_s(point) <= best * 1.05 * (1 + 1e-6)
    assert found.certified_fraction > 0.9


def test_break_even_needs_routes_that_do_not_change() -> None:
    with pytest.raises(UsageError, match="close rings"):
        break_even(lambda _: triangle())

    def at(mbit_s: float) -> Problem:
        scale = 1.0 / mbit_s
        links = [link("camera", "s1", scale), link("camera", "s2", scale), link("s1", "s2", scale)]
        routes = Routes(triangle()).all()
        return triangle(links=links, routes=[list(way) for way in routes])

    found = break_even(at)
    assert found.bandwidth_mbit_s is not None and found.bandwidth_mbit_s > 0
