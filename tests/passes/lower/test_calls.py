"""Who calls whom, who pushes to whom, and how few calls that takes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from partc.ir.plan import Transfer
from partc.ir.segment import Call, Exchange, Segment, Step
from partc.ir.topology import Topology
from partc.ir.waiting import why_stuck
from partc.passes.lower.calls import make_calls
from partc.passes.lower.routes import HostTree, Routes
from tests.support.placements import CELL, MESH, TRIANGLE, topology_of


def segment(name: str, host: str, reads: Iterable[str], makes: Iterable[str]) -> Segment:
    return Segment(name, host, (name,), tuple(reads), tuple(makes))


def planned(
    segments: Sequence[Segment], topology: Topology, transfers: Iterable[Transfer] = ()
) -> tuple[Call, ...]:
    program: Any = SimpleNamespace(inputs=("x",), outputs=("y",))
    calls = make_calls(program, segments, topology, transfers=transfers)
    assert why_stuck(calls, {s.id: s for s in segments}) is None
    return calls


def told(call: Call) -> list[str]:
    """Steps in one word each."""
    return [
        step.run
        or step.call
        or (f"{step.push.id}>{step.push.peer}" if step.push else "")
        or (f"{step.awaits.id}<{step.awaits.peer}" if step.awaits else "")
        for step in call.steps
    ]


def tiles(rounds: int) -> list[Segment]:
    """The hub cuts, two hosts work on a half each and exchange halos, the hub puts together."""
    made = [segment("cut", "hub", ["x"], ["l0", "r0"])]
    for k in range(rounds):
        halo = (f"hr{k}", f"hl{k}") if k else (None, None)
        for side, host, other in (("l", "left", halo[0]), ("r", "right", halo[1])):
            reads = [f"{side}{k}", *([other] if other else [])]
            makes = [f"{side}{k + 1}", *([f"h{side}{k + 1}"] if k + 1 < rounds else [])]
            made.append(segment(f"{side.upper()}{k}", host, reads, makes))
    return [*made, segment("join", "hub", [f"l{rounds}", f"r{rounds}"], ["y"])]


def test_servers_that_exchange_halos_are_called_once() -> None:
    hub, left, right = planned(tiles(3), TRIANGLE)
    assert told(hub) == ["cut", left.id, right.id, "join"]
    assert told(left) == ["L0", "x0>right", "x1<right", "L1", "x2>right", "x3<right", "L2"]
    assert told(right) == ["R0", "x1>left", "x0<left", "R1", "x3>left", "x2<left", "R2"]
    assert (left.inputs, left.outputs) == (("l0",), ("l3",))
    assert left.steps[1].push == Exchange("x0", "right", ("hl1",))
    assert right.steps[2].awaits == Exchange("x0", "left", ("hl1",))


def test_without_a_link_between_them_each_exchange_is_a_call() -> None:
    star = topology_of(("hub", "left"), ("hub", "right"))
    calls = planned(tiles(3), star)
    assert [call.host for call in calls].count("left") == 3
    assert not any(step.push or step.awaits for call in calls for step in call.steps)


def test_the_last_server_answers_and_the_first_returns_nothing() -> None:
    segments = [
        segment("a", "left", ["x"], ["t"]),
        segment("b", "right", ["t"], ["u"]),
        segment("c", "hub", ["u"], ["y"]),
    ]
    _, left, right = planned(segments, TRIANGLE)
    assert (left.inputs, left.outputs) == (("x",), ())
    assert (right.inputs, right.outputs) == ((), ("u",))


def test_calls_come_before_own_work_and_side_by_side() -> None:
    segments = [
        segment("a", "left", ["x"], ["t"]),
        segment("b", "right", ["x"], ["u"]),
        segment("o", "hub", ["x"], ["v"]),
        segment("c", "hub", ["t", "u", "v"], ["y"]),
    ]
    hub, left, right = planned(segments, TRIANGLE)
    assert told(hub) == [left.id, right.id, "o", "c"]


def test_hosts_of_a_bus_push() -> None:
    segments = [
        segment("a", "robot", ["x"], ["t"]),
        segment("b", "server", ["t"], ["u", "w"]),
        segment("c", "robot", ["u"], ["v"]),
        segment("d", "spare", ["v", "w"], ["y"]),
    ]
    calls = planned(segments, CELL)
    assert {call.caller for call in calls[1:]} == {"phone"}
    assert sorted(call.host for call in calls[1:]) == ["robot", "server", "spare"]


def test_transfers_of_the_plan_say_which_way_a_tensor_takes() -> None:
    """Over the hub, although the servers are joined: their link may be the slower way."""
    segments = [segment("a", "left", ["x"], ["t"]), segment("b", "right", ["t"], ["y"])]
    around = [Transfer("t", "left", "hub", 1, 0.0), Transfer("t", "hub", "right", 1, 0.0)]
    _, left, right = planned(segments, TRIANGLE, around)
    assert (left.outputs, right.inputs) == (("t",), ("t",))
    _, left, right = planned(segments, TRIANGLE)
    assert (left.outputs, right.inputs) == ((), ())
    nonsense = [Transfer("t", "left", "moon", 1, 0.0), Transfer("t", "moon", "right", 1, 0.0)]
    assert planned(segments, TRIANGLE, nonsense) == planned(segments, TRIANGLE)


def test_a_host_that_only_passes_a_tensor_on() -> None:
    ring = topology_of(("hub", "a"), ("a", "b"), ("b", "c"), ("c", "hub"))
    way = [Transfer("t", "c", "b", 1, 0.0), Transfer("t", "b", "a", 1, 0.0)]
    segments = [segment("s", "c", ["x"], ["t"]), segment("e", "a", ["t"], ["y"])]
    calls = planned(segments, ring, way)
    steps = {call.host: told(call) for call in calls}
    assert steps["b"] == ["x0<c"]
    assert steps["c"] == ["s", "x0>b"]
    assert next(call for call in calls if call.host == "b").outputs == ("t",)


def test_stages_of_two_gateways_that_would_wait_for_each_other() -> None:
    """Each gateway's host behind it needs the other's: told apart finely enough, it ends."""
    joined = topology_of(
        ("root", "g1"), ("root", "g2"), ("g1", "c1"), ("g2", "c2"), ("g1", "g2"), ("c1", "c2")
    )
    segments = [
        segment("e1", "g1", ["x"], ["p"]),
        segment("e2", "g2", ["x"], ["q"]),
        segment("a1", "c1", ["p"], ["r"]),
        segment("b1", "c2", ["q"], ["s"]),
        segment("b0", "c2", ["r"], ["u"]),
        segment("a0", "c1", ["s"], ["v"]),
        segment("z", "root", ["u", "v"], ["y"]),
    ]
    planned(segments, joined)


@pytest.mark.parametrize("topology", [TRIANGLE, MESH, CELL], ids=["triangle", "mesh", "cell"])
def test_random_segments(topology: Topology) -> None:
    for seed in range(150):
        draw = random.Random(seed)
        tensors, segments = ["x"], []
        for index in range(draw.randint(2, 25)):
            reads = draw.sample(tensors, min(len(tensors), draw.randint(1, 3)))
            host = draw.choice(list(topology.hosts))
            segments.append(segment(f"s{index}", host, reads, [f"t{index}"]))
            tensors.append(f"t{index}")
        host = draw.choice(list(topology.hosts))
        calls = planned([*segments, segment("last", host, tensors[-3:], ["y"])], topology)
        arriving = [(c.host, t) for c in calls[1:] for t in c.inputs]
        arriving += [(c.caller or "", t) for c in calls[1:] for t in c.outputs]
        pushes = [step.push for call in calls for step in call.steps if step.push]
        arriving += [(push.peer, t) for push in pushes for t in push.tensors]
        assert len(set(arriving)) == len(arriving), "a tensor comes to a host twice"


def test_shortest_ways() -> None:
    tree = HostTree.of(MESH, "camera")
    assert tree.parent == {
        "camera": None, "gateway": "camera", "other": "camera", "near": "gateway", "far": "other"
    }  # fmt: skip
    assert tree.way("near", "other") == (("near", "other"),)
    assert not tree.is_call(("near", "other"))
    assert tree.way("camera", "far") == (("camera", "other"), ("other", "far"))
    before = Routes(tree).spread("t", "far", ["camera", "gateway", "far"])
    assert before == {"camera": "other", "other": "far", "gateway": "other"}


def test_what_waits_in_a_circle_is_named() -> None:
    segments = {
        "R": segment("R", "left", ["s"], ["r"]),
        "S": segment("S", "right", ["r"], ["s"]),
    }
    to_right, to_left = Exchange("a", "right", ("r",)), Exchange("b", "left", ("s",))
    calls = [
        Call("c0", "hub", None, ("x",), (), (Step(call="c1"), Step(call="c2"))),
        Call("c1", "left", "hub", (), (), (Step(run="R"), Step(push=to_right))),
        Call("c2", "right", "hub", (), (), (Step(run="S"), Step(push=to_left))),
    ]
    reason = why_stuck(calls, segments)
    assert reason is not None
    assert "wait for each other" in reason
    assert "segment 'R'" in reason
    segments["R"] = segment("R", "left", ["z"], ["r"])
    assert why_stuck(calls, segments) == (
        "segment 'R' waits for tensor 'z' at host 'left', which never comes"
    )
