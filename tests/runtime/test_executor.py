"""How a call is carried out, and replaced when a host fails: no network, no processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partc.errors import HostUnreachableError, RequestError
from partc.runtime.transport import CallFailedError, CallRequest, FailureKind, PendingCall
from tests.runtime import plans
from tests.runtime.handmade import Drawing, write_bundle
from tests.runtime.memory import MemoryNetwork

PLANS = {
    "two hosts": (plans.two_hosts, 6),
    "there and back": (plans.there_and_back, 36),
    "chain": (plans.chain, 36),
    "chain, called twice": (plans.chain_called_twice, 36),
    "side by side": (plans.side_by_side, 3),
    "a later call is ready first": (plans.later_call_is_ready_first, 7),
}


def expect(network: MemoryNetwork, factor: float, *, failed: str | None = None) -> None:
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], factor * feeds["x"], rtol=1e-5)
    assert answer.finished_locally == (failed is not None), answer.failures
    if failed is not None:
        assert f"Host {failed!r} failed" in answer.failures[0]


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_gives_the_right_answer(name: str, tmp_path: Path) -> None:
    draw, factor = PLANS[name]
    network = MemoryNetwork(write_bundle(tmp_path, draw()))
    expect(network, factor)


@pytest.mark.parametrize("name", PLANS)
def test_nothing_is_held_after_the_last_call(name: str, tmp_path: Path) -> None:
    draw, factor = PLANS[name]
    network = MemoryNetwork(write_bundle(tmp_path, draw()))
    expect(network, factor)
    assert {host: len(h.held) for host, h in network.hosts.items()} == dict.fromkeys(
        network.hosts, 0
    )
    assert all(host.held.size_bytes == 0 for host in network.hosts.values())


def every_failure() -> list[tuple[str, str, FailureKind]]:
    kinds = [kind for kind in FailureKind if kind is not FailureKind.REFUSED]
    return [
        (name, call.id, kind)
        for name, (draw, _) in PLANS.items()
        for call in draw().calls[1:]
        for kind in kinds
    ]


@pytest.mark.parametrize(("name", "call", "kind"), every_failure())
def test_any_call_may_fail_in_any_way(
    name: str, call: str, kind: FailureKind, tmp_path: Path
) -> None:
    draw, factor = PLANS[name]
    drawing = draw()
    network = MemoryNetwork(write_bundle(tmp_path, drawing))
    network.failing[call] = CallFailedError(kind, "it was told to")
    host = next(c.host for c in drawing.calls if c.id == call)
    expect(network, factor, failed=host)


def test_each_tensor_is_sent_once(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.there_and_back()))
    expect(network, 36)
    assert [(r.call, list(r.tensors)) for r in network.log] == [("c1", ["t"]), ("c2", ["v"])]


def test_a_host_that_lost_what_it_held_is_replaced(tmp_path: Path) -> None:
    """The server is restarted between two calls of a request: ``kept`` was never sent back."""
    network = MemoryNetwork(write_bundle(tmp_path, plans.there_and_back()))
    start = network.start

    def restart_before_second(host: str, request: CallRequest) -> PendingCall:
        if request.call == "c2":
            network.forget("server")
        return start(host, request)

    network.start = restart_before_second  # type: ignore[method-assign]
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)
    assert "does not hold tensor 'kept'" in answer.failures[0]
    # s1 ran on the server and again here, since what it had kept is gone.
    assert [(t.segment, t.host) for t in answer.segments if t.segment in ("s1", "s3")] == [
        ("s1", "server"),
        ("s1", "camera"),
        ("s3", "camera"),
    ]


def test_a_failed_host_is_not_called_again_for_the_same_request(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.there_and_back()))
    network.failing["c1"] = CallFailedError(FailureKind.ERROR, "it was told to")
    expect(network, 36, failed="server")
    assert [r.call for r in network.log] == ["c1"]


def test_a_silent_host_costs_one_deadline_and_later_requests_nothing(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts()), deadline_s=0.3)
    network.silent.add("server")
    start_s = time.perf_counter()
    expect(network, 6, failed="server")
    assert time.perf_counter() - start_s >= 0.3
    assert network.abandoned == ["c1"]
    for _ in range(3):
        expect(network, 6, failed="server")
    assert len(network.log) == 1


def test_a_host_that_is_back_is_used_again(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts()))
    network.down.add("server")
    expect(network, 6, failed="server")
    network.down.clear()
    wait_until(lambda: network.hosts["camera"].health.why_down("server") is None)
    expect(network, 6)


def test_a_gateway_replaces_the_host_behind_it(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.chain()))
    network.down.add("server")
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)
    assert answer.failures == ("Host 'server' failed: server refused the connection.",)
    assert ("s2", "gateway") in [(t.segment, t.host) for t in answer.segments]


def test_a_gateway_without_fallback_hands_the_failure_on(tmp_path: Path) -> None:
    drawing = plans.chain(fallback_hosts=("camera",))
    network = MemoryNetwork(write_bundle(tmp_path, drawing))
    network.down.add("server")
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], 36 * feeds["x"], rtol=1e-5)
    assert "Host 'gateway' failed: Host 'server' failed" in answer.failures[0]
    assert {t.host for t in answer.segments} == {"camera"}


def test_a_gateway_answers_before_its_caller_gives_up(tmp_path: Path) -> None:
    """It gives the hosts behind it only a part of its own time, however it is configured."""
    network = MemoryNetwork(write_bundle(tmp_path, plans.chain()), deadline_s=0.6)
    network.silent.add("server")
    answer = network.device.request(plans.sample())
    assert len(answer.failures) == 1
    assert "Host 'server' failed: it did not answer" in answer.failures[0]


def test_without_fallback_the_user_is_told_why(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts(fallback_hosts=())))
    network.down.add("server")
    with pytest.raises(HostUnreachableError) as caught:
        network.device.run(plans.sample())
    assert "server refused the connection" in str(caught.value)
    assert "made without fallback files" in str(caught.value)


@pytest.mark.parametrize("fallback", ["lazy", "none"])
def test_fallback_may_be_lazy_or_off(fallback: str, tmp_path: Path) -> None:
    network = MemoryNetwork(
        write_bundle(tmp_path, plans.two_hosts()),
        fallback=fallback,  # type: ignore[arg-type]
    )
    expect(network, 6)
    network.down.add("server")
    if fallback == "lazy":
        expect(network, 6, failed="server")
    else:
        with pytest.raises(HostUnreachableError):
            network.device.run(plans.sample())


def test_a_refused_request_is_the_callers_error(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts()))
    network.failing["c1"] = CallFailedError(FailureKind.REFUSED, "tensor 't' is odd")
    with pytest.raises(RequestError, match="refused the request: tensor 't' is odd"):
        network.device.run(plans.sample())
    assert network.hosts["camera"].health.why_down("server") is None


def test_a_server_with_another_bundle_is_not_trusted(tmp_path: Path) -> None:
    """Same names and shapes, other weights: silently wrong if nobody compares."""
    network = MemoryNetwork(write_bundle(tmp_path / "new", plans.two_hosts()))
    old = plans.two_hosts()
    tripled = plans.scaling("s1", "server", "t", 30.0, "y")
    other = MemoryNetwork(
        write_bundle(tmp_path / "old", Drawing(**{**vars(old), "pieces": (old.pieces[0], tripled)}))
    )
    network.hosts["server"] = other.hosts["server"]
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], 6 * feeds["x"], rtol=1e-5)
    assert "serves another bundle" in answer.failures[0]


def test_independent_work_goes_on_while_a_call_is_under_way(tmp_path: Path) -> None:
    """The answer takes 0.4 s; the device's own segment ends long before it, not after it."""
    network = MemoryNetwork(write_bundle(tmp_path, plans.side_by_side()))
    ended_s: dict[str, float] = {}
    camera = network.hosts["camera"].segments
    run = camera.run

    def noting(segment: Any, feeds: Any, end_s: float = math.inf) -> Any:
        result = run(segment, feeds, end_s)
        ended_s[segment.id] = time.perf_counter()
        return result

    camera.run = noting  # type: ignore[method-assign]
    answer = network._answer

    def late(*arguments: Any) -> None:
        time.sleep(0.4)
        answer(*arguments)

    network._answer = late  # type: ignore[method-assign, assignment]
    expect(network, 3)
    assert ended_s["s2"] < ended_s["s3"] - 0.2


def test_an_answer_of_another_shape_is_a_failure_of_the_host(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts()))
    server = network.hosts["server"].segments

    def wrong(segment: Any, feeds: Any, end_s: float = math.inf) -> Any:
        return {"y": np.zeros((2, 63), np.float32)}, 0.0

    server.run = wrong  # type: ignore[method-assign]
    feeds = plans.sample()
    answer = network.device.request(feeds)
    np.testing.assert_allclose(answer.outputs["y"], 6 * feeds["x"], rtol=1e-5)
    assert "output 'y' must have shape" in answer.failures[0]


def test_outputs_belong_to_the_user(tmp_path: Path) -> None:
    network = MemoryNetwork(write_bundle(tmp_path, plans.two_hosts()))
    output = network.device.run(plans.sample())["y"]
    output += 1
    assert output.base is None


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true"
        time.sleep(0.02)
