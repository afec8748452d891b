"""Hosts that send each other tensors beside the calls: no network, no processes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from partc.bundle.manifest import Manifest
from partc.runtime.device import Answer
from partc.runtime.transport import CallFailedError, FailureKind
from tests.runtime import meshes, plans
from tests.runtime.handmade import Piece, write_bundle
from tests.runtime.memory import MemoryNetwork
from tests.runtime.test_executor import wait_until

SETTINGS = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)

PLANS = {
    "exchange": (meshes.exchange, 4 * 3**3),
    "pipeline": (meshes.pipeline, 30),
    "forwarded": (meshes.forwarded, 44),
    "behind gateways": (meshes.behind_gateways, 30),
}


def ask(network: MemoryNetwork, factor: float, seed: int = 0) -> Answer:
    feeds = plans.sample(seed=seed)
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], factor * feeds["x"], rtol=1e-4, atol=1e-4)
    return answer


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_gives_the_right_answer_and_nothing_is_held(name: str, tmp_path: Path) -> None:
    draw, factor = PLANS[name]
    drawing = draw()
    network = MemoryNetwork(write_bundle(tmp_path, drawing))
    for seed in range(3):
        answer = ask(network, factor, seed)
        assert not answer.failures
    pushes = [step.push.id for call in drawing.calls for step in call.steps if step.push]
    assert sorted(push.push for push in answer.pushes) == sorted(pushes)
    assert {name: len(host.held) for name, host in network.hosts.items()} == dict.fromkeys(
        network.hosts, 0
    )


def test_two_servers_do_all_their_work_in_one_call_each() -> None:
    drawing = meshes.exchange(rounds=5)
    assert [(call.host, call.caller) for call in drawing.calls] == [
        ("camera", None),
        ("left", "camera"),
        ("right", "camera"),
    ]
    steps = drawing.calls[1].steps
    assert sum(step.push is not None for step in steps) == 5
    assert sum(step.awaits is not None for step in steps) == 5
    assert drawing.calls[1].outputs == ["a5"]


def test_what_one_segment_makes_for_a_host_is_one_message() -> None:
    both = plans.scaling("s1", "left", "t", 3.0, "u")
    second = plans.scaling("s1b", "left", "t", 4.0, "v")
    made = Piece(
        "s1", "left", ("t",), ("u", "v"), both.nodes + second.nodes, {**(both.constants or {})}
    )
    pieces = (
        plans.scaling("s0", "camera", "x", 2.0, "t"),
        made,
        plans.adding("s2", "right", "u", "v", "y"),
    )
    calls = meshes.calls_of(
        pieces, ["camera", "left", "right"], meshes.all_pairs(["camera", "left", "right"]), ("y",)
    )
    pushed = [step.push for call in calls for step in call.steps if step.push]
    assert [(push.peer, push.tensors) for push in pushed] == [("right", ["u", "v"])]


@SETTINGS
@given(data=st.data(), count=st.integers(3, 4))
def test_random_plans_of_hosts_that_are_all_joined(data: st.DataObject, count: int) -> None:
    """No deadlock, the right answer, nothing left behind."""
    hosts = [f"h{number}" for number in range(count)]
    pieces, factor = data.draw(meshes.random_pieces(hosts))
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder), meshes.mesh(pieces, hosts))
        network = MemoryNetwork(bundle, deadline_s=20.0, fallback="lazy")
        assert not ask(network, factor).failures
        assert not any(len(host.held) for host in network.hosts.values())


@SETTINGS
@given(data=st.data(), count=st.integers(3, 6))
def test_random_plans_over_random_joints_end(data: st.DataObject, count: int) -> None:
    """Trees with cross links, rings, chains: the manifest's own check says that all calls end."""
    hosts = [f"h{number}" for number in range(count)]
    pairs = {(hosts[data.draw(st.integers(0, i - 1))], hosts[i]) for i in range(1, count)}
    pairs |= {pair for pair in meshes.all_pairs(hosts) if data.draw(st.booleans())}
    pieces, factor = data.draw(meshes.random_pieces(hosts))
    with tempfile.TemporaryDirectory() as folder:
        drawing = meshes.mesh(pieces, hosts, sorted(pairs))
        if not _connected(drawing.links, {call.host for call in drawing.calls}):
            return
        bundle = write_bundle(Path(folder), drawing)
        network = MemoryNetwork(bundle, deadline_s=20.0, fallback="lazy")
        assert not ask(network, factor).failures


def _connected(links: tuple[meshes.Pair, ...], hosts: set[str]) -> bool:
    reached = {min(hosts)}
    while more := {h for pair in links if reached & set(pair) for h in pair} - reached:
        reached |= more
    return reached == hosts


@pytest.mark.parametrize("host", ["left", "right"])
@pytest.mark.parametrize("name", ["exchange", "pipeline"])
def test_a_host_that_is_down(name: str, host: str, tmp_path: Path) -> None:
    draw, factor = PLANS[name]
    network = MemoryNetwork(write_bundle(tmp_path, draw()), deadline_s=5.0)
    network.down.add(host)
    answer = ask(network, factor)
    assert any(f"Host {host!r} failed" in failure for failure in answer.failures)
    wait_until(lambda: not any(h.held.calls_under_way for h in network.hosts.values()))
    again = ask(network, factor, 1)
    assert again.finished_locally


@pytest.mark.parametrize("host", ["g1", "g2", "c1", "c2"])
@pytest.mark.parametrize("fault", ["down", "silent"])
def test_gateways_and_what_is_behind_them(fault: str, host: str, tmp_path: Path) -> None:
    """A gateway has not all that it takes to replace a host that another sends tensors."""
    network = MemoryNetwork(write_bundle(tmp_path, meshes.behind_gateways()), deadline_s=1.0)
    getattr(network, fault).add(host)
    answer = ask(network, 30)
    assert answer.finished_locally
    assert ask(network, 30, 1).finished_locally


@pytest.mark.parametrize("host", ["left", "right"])
def test_a_silent_host_costs_one_deadline(host: str, tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, meshes.exchange()), deadline_s=1.0)
    network.silent.add(host)
    answer = ask(network, 108)
    assert any(f"Host {host!r} failed" in failure for failure in answer.failures)
    other = "left" if host == "right" else "right"
    assert network.hosts["camera"].health.why_down(host) is not None
    assert network.hosts["camera"].health.why_down(other) is None, "it did nothing wrong"


@pytest.mark.parametrize("kind", [FailureKind.UNREACHABLE, FailureKind.BUSY, FailureKind.REFUSED])
def test_a_push_that_fails(kind: FailureKind, tmp_path: Path) -> None:
    drawing = meshes.exchange()
    network = MemoryNetwork(write_bundle(tmp_path, drawing), deadline_s=5.0)
    first = next(step.push.id for call in drawing.calls for step in call.steps if step.push)
    network.failing_here[first] = CallFailedError(kind, "it was told to")
    answer = ask(network, 108)
    assert any("cannot send tensors to host" in failure for failure in answer.failures)


def test_a_push_that_breaks_once_is_sent_again(tmp_path: Path) -> None:
    """And one that came although it seemed to break is not counted twice."""
    drawing = meshes.exchange()
    network = MemoryNetwork(write_bundle(tmp_path, drawing), deadline_s=5.0)
    broken = CallFailedError(FailureKind.UNREACHABLE, "the connection was reset")
    ids = [step.push.id for call in drawing.calls for step in call.steps if step.push]
    network.failing_once = dict.fromkeys(ids, broken)
    answer = ask(network, 108)
    assert not answer.failures
    assert sorted(r.call for r in network.log if r.call in ids) == sorted(ids * 2)


def test_a_push_that_never_arrives(tmp_path: Path) -> None:
    drawing = meshes.exchange()
    network = MemoryNetwork(write_bundle(tmp_path, drawing), deadline_s=1.0)
    network.lost = {step.push.id for call in drawing.calls for step in call.steps if step.push}
    answer = ask(network, 108)
    assert any(
        "did not come from host" in failure or "did not take them in time" in failure
        for failure in answer.failures
    )


def test_a_segment_that_fails_on_one_ends_the_others_call(tmp_path: Path) -> None:
    """Not by its deadline: the device tells it."""
    drawing = meshes.exchange()
    network = MemoryNetwork(write_bundle(tmp_path, drawing), deadline_s=60.0)
    call = next(c for c in drawing.calls if c.host == "left")
    pool = network.hosts["left"].segments

    def broken(*_: object, **__: object) -> object:
        raise CallFailedError(FailureKind.ERROR, "out of memory")

    pool.run = broken  # type: ignore[method-assign, assignment]
    answer = ask(network, 108)
    assert "out of memory" in answer.failures[0]
    assert "exchanges tensors with host 'left', which failed" in answer.failures[1]
    assert answer.latency_s < 20
    assert call.id not in network.abandoned


def test_codecs_apply_to_pushes(tmp_path: Path) -> None:
    drawing = meshes.pipeline(codecs={"u": "fp16"})
    network = MemoryNetwork(write_bundle(tmp_path, drawing))
    ask(network, 30)
    push = next(r for r in network.log if r.call.startswith("x"))
    assert dict(push.codecs) == {"u": "fp16"}


def test_a_manifest_with_pushes_is_written_and_read(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, meshes.exchange())
    manifest = Manifest.load(bundle)
    assert Manifest.parse(__import__("json").loads(manifest.to_json())) == manifest
