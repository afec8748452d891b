"""Real processes over real sockets: plans, killed and frozen hosts, restarts, cut links."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partc.errors import PartcError, RequestError, UsageError
from partc.runtime.device import Answer
from partc.runtime.local import LocalDeployment
from tests.runtime import plans
from tests.runtime.handmade import Drawing, write_bundle


def check(local: LocalDeployment, factor: float, *, seed: int = 0, rows: int = 2) -> Answer:
    feeds = plans.sample(rows, seed)
    answer = local.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], factor * feeds["x"], rtol=1e-5)
    return answer


def wait_until_used(local: LocalDeployment, factor: float, host: str) -> Answer:
    end_s = time.monotonic() + 15
    while time.monotonic() < end_s:
        answer = check(local, factor)
        if not answer.failures:
            assert host in {segment.host for segment in answer.segments}
            return answer
        time.sleep(0.05)
    raise AssertionError(f"host {host} was not used again")


@pytest.mark.parametrize("emulate", [True, False])
@pytest.mark.parametrize(
    ("draw", "factor"),
    [
        (plans.two_hosts, 6),
        (plans.there_and_back, 36),
        (plans.chain, 36),
        (plans.chain_called_twice, 36),
        (plans.side_by_side, 3),
    ],
)
def test_every_plan(
    draw: Callable[[], Drawing], factor: float, emulate: bool, tmp_path: Path
) -> None:
    drawing = draw()
    with LocalDeployment(write_bundle(tmp_path, drawing), emulate) as local:
        for seed in range(10):
            answer = check(local, factor, seed=seed)
            assert not answer.failures
        assert {(s.segment, s.host) for s in answer.segments} == {
            (p.id, p.host) for p in drawing.pieces
        }
        assert {c.call for c in answer.calls} == {c.id for c in drawing.calls[1:]}
        assert all(c.sent_bytes and c.received_bytes and c.seconds > 0 for c in answer.calls)
        assert answer.latency_s > max(c.seconds for c in answer.calls)


def test_a_dynamic_batch_stays_dynamic(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.two_hosts()), False) as local:
        for rows in (1, 3, 17, 0):
            assert not check(local, 6, rows=rows).failures


@pytest.mark.parametrize(
    ("codec", "tolerance", "ratio"),
    [("fp16", 1e-3, 0.6), ("int8", 0.05, 0.35), ("lz4", 0.0, 0.3), ("fp16+zstd", 1e-3, 0.2)],
)
def test_tensors_travel_as_the_plan_says(
    codec: str, tolerance: float, ratio: float, tmp_path: Path
) -> None:
    drawing = plans.two_hosts(codecs={"t": codec, "y": codec})
    feeds = plans.sample(rows=40)
    if codec in ("lz4", "fp16+zstd"):
        feeds["x"][4:] = 0  # something to compress
    with LocalDeployment(write_bundle(tmp_path, drawing), False) as local:
        answer = local.request(feeds)
        assert not answer.failures
        np.testing.assert_allclose(
            answer.outputs["y"], 6 * feeds["x"], rtol=0, atol=20 * tolerance + 1e-5
        )
        for size_bytes in (answer.calls[0].sent_bytes, answer.calls[0].received_bytes):
            assert size_bytes < ratio * feeds["x"].nbytes + 500
        feeds["x"][0, 0] = np.inf
        assert np.isinf(local.run(feeds)["y"][0, 0]), "what no codec holds travels as it is"


def test_requests_from_many_threads(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(local: LocalDeployment, seed: int) -> None:
        try:
            for turn in range(10):
                assert not check(local, 36, seed=100 * seed + turn).failures
        except BaseException as error:
            failed.append(error)

    with LocalDeployment(write_bundle(tmp_path, plans.there_and_back()), False) as local:
        threads = [threading.Thread(target=work, args=(local, i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


@contextmanager
def during_request(local: LocalDeployment, factor: float) -> Iterator[list[Answer]]:
    """A request that is under way in another thread; its answer is there at the end."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def request() -> None:
        try:
            answers.append(check(local, factor))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=request)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive(), "the request ended too early for this test"
    yield answers
    thread.join(20)
    assert not errors, errors
    assert answers


def test_a_server_killed_in_the_middle_of_a_request(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.slow_server(10_000)), deadline_s=15) as local:
        with during_request(local, 2) as answers:
            local.kill_host("server")
            killed_s = time.perf_counter()
        assert time.perf_counter() - killed_s < 5
        (answer,) = answers
        assert answer.finished_locally
        assert "Host 'server' failed" in answer.failures[0]
        assert "cannot be reached" in answer.failures[0]
        assert ("s1", "camera") in [(s.segment, s.host) for s in answer.segments]
        # The next request does not try again before the host is back.
        assert check(local, 2).latency_s < 1


def test_a_killed_server_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.there_and_back())) as local:
        assert not check(local, 36).failures
        local.kill_host("server")
        assert check(local, 36).finished_locally
        local.restart_host("server")
        wait_until_used(local, 36, "server")


def test_a_frozen_server_costs_one_deadline(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.two_hosts()), deadline_s=0.5) as local:
        assert not check(local, 6).failures
        local.stop_host("server")
        answer = check(local, 6)
        assert "did not answer in 0.5" in answer.failures[0]
        assert 0.5 <= answer.latency_s < 2
        for _ in range(5):
            answer = check(local, 6)
            assert answer.finished_locally
            assert answer.latency_s < 0.3
        local.continue_host("server")
        wait_until_used(local, 6, "server")


def test_a_gateway_survives_the_death_of_the_host_behind_it(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.chain())) as local:
        assert not check(local, 36).failures
        local.kill_host("server")
        answer = check(local, 36)
        assert "Host 'server' failed" in answer.failures[0]
        assert ("s2", "gateway") in [(s.segment, s.host) for s in answer.segments]
        local.kill_host("gateway")
        answer = check(local, 36)
        assert "Host 'gateway' failed" in answer.failures[0]
        assert {s.host for s in answer.segments} == {"camera"}


def test_a_cut_and_a_silent_link(tmp_path: Path) -> None:
    with LocalDeployment(write_bundle(tmp_path, plans.two_hosts()), deadline_s=0.5) as local:
        assert not check(local, 6).failures
        local.cut_link("camera", "server")
        time.sleep(0.2)
        answer = check(local, 6)
        assert answer.finished_locally
        assert answer.latency_s < 0.4, "a refused connection must not cost the deadline"
        local.mend_link("camera", "server")
        wait_until_used(local, 6, "server")
        local.hang_link("camera", "server")
        time.sleep(0.2)
        assert "did not answer" in check(local, 6).failures[0]
        local.mend_link("server", "camera")
        wait_until_used(local, 6, "server")


def test_the_link_is_really_slow(tmp_path: Path) -> None:
    """2 Mbit/s and 40 ms: 100 rows of 256 bytes there and back take 2 x 102.4 + 40 ms."""
    drawing = plans.two_hosts(bandwidth_mbit_s=2.0, rtt_ms=40.0)
    with LocalDeployment(write_bundle(tmp_path, drawing)) as local:
        latencies_s = sorted(check(local, 6, rows=100).latency_s for _ in range(5))
    assert 0.244 <= latencies_s[2] < 0.244 * 1.25


def test_a_very_slow_link_is_not_taken_for_a_dead_host(tmp_path: Path) -> None:
    drawing = plans.two_hosts(bandwidth_mbit_s=10.0, rtt_ms=600.0)
    with LocalDeployment(write_bundle(tmp_path, drawing)) as local:
        assert not check(local, 6).failures


def test_a_slow_host_really_waits(tmp_path: Path) -> None:
    """Far from a fast one even on a busy machine; test_pacing holds the wait to its figure."""
    fast = write_bundle(tmp_path / "fast", plans.slow_server(1.0, rounds=1500))
    slow = write_bundle(tmp_path / "slow", plans.slow_server(50.0, rounds=1500))
    taken_s: dict[str, list[float]] = {"fast": [], "slow": []}
    with LocalDeployment(fast, False) as quick, LocalDeployment(slow, False) as slowed:
        for _ in range(10):
            for name, local in (("fast", quick), ("slow", slowed)):
                taken_s[name].append(check(local, 2).segment_s()["server"]["s1"])
    assert 10 < min(taken_s["slow"]) / min(taken_s["fast"]) < 150


def test_wrong_requests_are_one_sentence(tmp_path: Path) -> None:
    x = plans.sample()["x"]
    with LocalDeployment(write_bundle(tmp_path, plans.two_hosts()), False) as local:
        for feeds, sentence in (
            ({}, "input 'x' is missing; it is a float32 tensor of shape (N, 64)"),
            ({"x": x, "x1": x}, "There is no input named 'x1'. Did you mean 'x'? Known: x."),
            ({"x": x.astype(np.float64)}, "must be a float32 tensor of shape (N, 64), but float64"),
            ({"x": x[0]}, "must have shape (N, 64), but (64,) was given"),
            ({"x": x[:, :63]}, "must have shape (N, 64), but (2, 63) was given"),
        ):
            with pytest.raises(RequestError) as caught:
                local.run(feeds)
            assert sentence in str(caught.value)
        positional: Any = [x]
        with pytest.raises(RequestError, match=r"by name, such as \{'x': \.\.\.\}, but a list"):
            local.run(positional)
        assert not check(local, 6).failures


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    end_s = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end_s, "a process outlived its parent"
        time.sleep(0.05)


def test_all_processes_end_with_the_context(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.chain())
    with pytest.raises(ZeroDivisionError), LocalDeployment(bundle) as local:
        pids = list(local.process_ids().values())
        assert len(pids) == 4
        assert all(alive(pid) for pid in pids)
        local.stop_host("server")
        raise ZeroDivisionError
    wait_until_gone(pids)


PARENT = """
import sys, time
from partc.runtime.local import LocalDeployment
with LocalDeployment(sys.argv[1]) as local:
    local.stop_host("server")
    print(*local.process_ids().values(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_processes_end_with_their_parent(number: signal.Signals, tmp_path: Path) -> None:
    """Even a frozen one."""
    bundle = write_bundle(tmp_path, plans.chain())
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4
        parent.send_signal(number)
        parent.wait(60)
        wait_until_gone(pids)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_host_that_cannot_start_says_why(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, plans.two_hosts())
    (bundle / "hosts/server/s1.onnx").write_bytes(b"something else")
    with pytest.raises(PartcError, match=r"host 'server' could not start: .*s1\.onnx"):
        LocalDeployment(bundle)


def test_an_unknown_host_process(tmp_path: Path) -> None:
    with (
        LocalDeployment(write_bundle(tmp_path, plans.two_hosts()), False) as local,
        pytest.raises(UsageError, match="Did you mean 'server'"),
    ):
        local.kill_host("servr")


def test_a_link_becomes_slower(tmp_path: Path) -> None:
    """32 KiB at 1 Mbit/s take a quarter of a second; at the declared rate nothing to speak of."""
    with LocalDeployment(write_bundle(tmp_path, plans.two_hosts())) as local:
        check(local, 6, rows=2)
        local.set_bandwidth("camera", "server", 1.0)
        feeds = plans.sample(128, 0)
        slow = local.request(feeds)
        assert not slow.failures
        moved_bytes = sum(a.nbytes for a in feeds.values())
        assert slow.latency_s >= 8e-6 * moved_bytes
