"""Servers that send each other tensors, as processes over real sockets: killed, frozen, cut off."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.runtime.cores import cores_of_hosts, usable_cores
from partc.runtime.device import Answer
from partc.runtime.local import LocalDeployment
from partc.runtime.server import HostServer
from tests.runtime import meshes, plans
from tests.runtime.handmade import Drawing, write_bundle
from tests.runtime.test_local import check, during_request, wait_until_used


def slow(**more: object) -> Drawing:
    """Two servers that exchange tensors for some seconds: y = 4 * 3**4 x."""
    settings_: dict[str, object] = {"slowdown": {"left": 2000.0, "right": 2000.0}, **more}
    return meshes.exchange(rounds=4, labour=30, **settings_)


@pytest.mark.parametrize("emulate", [True, False])
@pytest.mark.parametrize(
    ("draw", "factor"),
    [(meshes.exchange, 108), (meshes.pipeline, 30), (meshes.forwarded, 44)],
)
def test_every_plan(
    draw: Callable[[], Drawing], factor: float, emulate: bool, tmp_path: Path
) -> None:
    drawing = draw()
    with LocalDeployment(write_bundle(tmp_path, drawing), emulate, deadline_s=20) as local:
        for seed in range(5):
            answer = check(local, factor, seed=seed)
            assert not answer.failures
        assert {(s.segment, s.host) for s in answer.segments} == {
            (p.id, p.host) for p in drawing.pieces
        }
        assert all(p.sent_bytes and p.seconds > 0 for p in answer.pushes)
        pushes = [step.push for call in drawing.calls for step in call.steps if step.push]
        assert sorted(p.push for p in answer.pushes) == sorted(push.id for push in pushes)


def test_many_requests_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    bundle = write_bundle(tmp_path, meshes.exchange())
    with LocalDeployment(bundle, False, deadline_s=60) as local:

        def work(seed: int) -> None:
            try:
                for turn in range(5):
                    assert not check(local, 108, seed=100 * seed + turn).failures
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


@pytest.mark.parametrize("host", ["left", pytest.param("right", marks=pytest.mark.slow)])
def test_a_server_killed_in_the_middle_of_an_exchange(host: str, tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, slow()), deadline_s=60) as local:
        with during_request(local, 324) as answers:
            local.kill_host(host)
            killed_s = time.perf_counter()
        assert time.perf_counter() - killed_s < 30, "no deadline was waited for"
        (answer,) = answers
        assert any(f"Host {host!r} failed" in failure for failure in answer.failures)
        assert check(local, 324).finished_locally
        local.restart_host(host)
        wait_until_used(local, 324, host)


@pytest.mark.parametrize("host", [pytest.param("left", marks=pytest.mark.slow), "right"])
def test_a_server_frozen_in_the_middle_of_an_exchange(host: str, tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, slow()), deadline_s=8) as local:
        with during_request(local, 324) as answers:
            local.stop_host(host)
        (answer,) = answers
        assert answer.finished_locally
        assert any(f"{host!r}" in failure for failure in answer.failures)
        assert check(local, 324).finished_locally
        local.continue_host(host)
        wait_until_used(local, 324, host)


def test_the_link_of_two_servers_is_cut(tmp_path: Path) -> None:
    """Both are well, and the device reaches both."""
    bundle = write_bundle(tmp_path, meshes.exchange())
    with LocalDeployment(bundle, deadline_s=10) as local:
        assert not check(local, 108).failures
        local.cut_link("left", "right")
        time.sleep(0.2)
        answer = check(local, 108)
        assert "cannot send tensors to host" in answer.failures[0]
        assert answer.latency_s < 8, "a refused connection must not cost the deadline"
        local.mend_link("left", "right")
        wait_until_used(local, 108, "left")


def test_the_link_of_two_servers_is_silent(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, meshes.exchange())
    with LocalDeployment(bundle, deadline_s=2) as local:
        assert not check(local, 108).failures
        local.hang_link("left", "right")
        time.sleep(0.2)
        answer = check(local, 108)
        assert answer.finished_locally
        local.mend_link("left", "right")
        wait_until_used(local, 108, "left")


def on_a_bus(**bus: object) -> Drawing:
    return meshes.pipeline(bus={"bandwidth_mbit_s": 4.0, "rtt_ms": 40.0, **bus})


@pytest.mark.parametrize("shared", [True, False])
def test_a_bus_is_emulated(shared: bool, tmp_path: Path) -> None:
    """51.2 kB three times at half of 4 Mbit/s, and 3 times 20 ms: 0.675 s, whoever shares."""
    bundle = write_bundle(tmp_path, on_a_bus(shared=shared))
    with LocalDeployment(bundle, deadline_s=30) as local:
        assert ("bus" in local.process_ids()) == shared
        latencies_s = [check(local, 30, rows=200).latency_s for _ in range(3)]
        assert 0.674 <= min(latencies_s) < 2
        local.cut_link("left", "right")
        time.sleep(0.2)
        assert check(local, 30, rows=1).finished_locally


def test_hosts_of_a_shared_medium_wait_for_each_other(tmp_path: Path) -> None:
    """Two tensors of 102.4 kB to two hosts at once: side by side only where nothing is shared."""
    pieces = (
        plans.scaling("s1", "left", "x", 2.0, "a"),
        plans.scaling("s2", "right", "x", 3.0, "b"),
        plans.adding("s3", "camera", "a", "b", "y"),
    )
    least_s: dict[bool, float] = {}
    for shared in (True, False):
        medium = {"bandwidth_mbit_s": 8.0, "shared": shared}
        drawing = meshes.mesh(pieces, ["camera", "left", "right"], bus=medium)
        with LocalDeployment(write_bundle(tmp_path / str(shared), drawing), deadline_s=30) as local:
            least_s[shared] = min(check(local, 5, rows=400).latency_s for _ in range(3))
    assert least_s[True] >= 0.819
    assert least_s[False] >= 0.409


def test_another_bandwidth_is_emulated(tmp_path: Path) -> None:
    """51.2 kB there and back at 2 Mbit/s instead of 1000: 0.41 s."""
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with LocalDeployment(bundle, bandwidth_mbit_s=2.0, deadline_s=20) as local:
        assert 0.409 <= check(local, 6, rows=200).latency_s < 2
    with pytest.raises(UsageError, match="must be a positive number"):
        LocalDeployment(bundle, bandwidth_mbit_s=0.0)


def test_each_host_has_cores_of_its_own(tmp_path: Path) -> None:
    before = usable_cores()
    bundle = write_bundle(tmp_path, plans.two_hosts())
    with LocalDeployment(bundle, False) as local:
        server = os.sched_getaffinity(local.process_ids()["server"])
        if len(before) >= 2:
            assert len(server) == 1
            assert not server & set(usable_cores())
        check(local, 6)
    assert usable_cores() == before
    with LocalDeployment(bundle, False, pin=False) as local:
        assert os.sched_getaffinity(local.process_ids()["server"]) == set(before)


def test_which_cores() -> None:
    count = len(usable_cores())
    every = cores_of_hosts(dict.fromkeys(["root", *map(str, range(count - 1))], 1), "root")
    assert sorted(c for cores in every.values() for c in cores) == sorted(usable_cores())
    others = cores_of_hosts(dict.fromkeys(["root", *map(str, range(count))], 1), "root")
    assert "root" not in others
    assert len(others) == count
    assert cores_of_hosts({"root": 1, "server": count + 1}, "root") == {}


def test_a_host_that_pushes_needs_an_address(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, meshes.exchange())
    with pytest.raises(UsageError) as caught:
        HostServer(bundle, "left")
    assert "host 'right' has no address, and host 'left' sends it tensors directly" in str(
        caught.value
    )


@pytest.mark.slow
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data(), count=st.integers(3, 4))
def test_random_plans_end(data: st.DataObject, count: int) -> None:
    hosts = [f"h{number}" for number in range(count)]
    pieces, factor = data.draw(meshes.random_pieces(hosts))
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder), meshes.mesh(pieces, hosts))
        with LocalDeployment(bundle, False, deadline_s=60, fallback="lazy") as local:
            answers: list[Answer] = []
            for seed in range(3):
                feeds = plans.sample(seed=seed)
                answers.append(local.request(feeds))
                np.testing.assert_allclose(
                    answers[-1].outputs["y"], factor * feeds["x"], rtol=1e-4, atol=1e-4
                )
            assert not any(answer.failures for answer in answers)


@pytest.mark.slow
def test_servers_die_and_come_back_at_any_moment(tmp_path: Path) -> None:
    """No request is lost, none is wrong, and nothing is left behind."""
    draw = random.Random(0)
    failed: list[BaseException] = []
    over = threading.Event()
    drawing = meshes.exchange(4, 8, slowdown={"left": 20.0, "right": 20.0})
    with LocalDeployment(write_bundle(tmp_path, drawing), deadline_s=5) as local:

        def ask(seed: int) -> None:
            try:
                while not over.is_set():
                    check(local, 324, seed=seed)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(12):
            time.sleep(draw.uniform(0.05, 1.0))
            host = draw.choice(["left", "right"])
            if turn % 3:
                local.kill_host(host)
                local.restart_host(host)
            else:
                local.stop_host(host)
                time.sleep(draw.uniform(0.05, 1.0))
                local.continue_host(host)
        over.set()
        for thread in threads:
            thread.join()
        assert not failed
        wait_until_used(local, 324, "left")
