"""Measuring links: the estimate on made-up series, and the whole of it through an emulated link."""

from __future__ import annotations

import json
import math
import random
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partc import Topology
from partc.agent.link import jitter_s, measure_way, theil_sen, topology_entry, way_from
from partc.agent.meter import AgentMeter
from partc.agent.probing import link_between, link_to
from partc.agent.terms import measure_terms
from partc.agent.wire.client import AgentClient
from partc.errors import HostUnreachableError, PartcError
from partc.runtime.relay import Link, Relay
from partc.targets.meter import KnowsCodecs
from tests.agent.support import AgentProcess
from tests.cli.support import partc

UP_MBIT_S, DOWN_MBIT_S, RTT_S = 20.0, 5.0, 0.010

slopes = st.floats(1e-10, 1e-4)
fixed = st.floats(1e-5, 0.5)


@given(slope=slopes, fixed_s=fixed, seed=st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_a_line_is_found_whatever_a_few_messages_do(
    slope: float, fixed_s: float, seed: int
) -> None:
    """One message in five is held up for any time; the slope hardly moves."""
    drawn = random.Random(seed)
    # As in a measurement, the largest message outweighs what every message costs.
    largest = int(6 * fixed_s / slope) + 1000
    sizes = [1000, *(1000 + largest * step // 5 for step in range(1, 6))]
    points = [
        (size, (fixed_s + slope * size) * (1 + 0.01 * drawn.random())
         + (drawn.random() * 50 * fixed_s if turn % 5 == 4 else 0.0))
        for turn in range(15)
        for size in sizes
    ]  # fmt: skip
    fit = theil_sen(points)
    assert fit.s_per_byte == pytest.approx(slope, rel=0.05)


@given(slope=slopes, fixed_s=fixed)
@settings(max_examples=100, deadline=None)
def test_bytes_over_time_would_be_wrong_and_the_slope_is_not(slope: float, fixed_s: float) -> None:
    now_s = 0.0

    def send(size: int) -> float:
        nonlocal now_s
        took_s = fixed_s + slope * size
        now_s += took_s
        return took_s

    points, largest = measure_way(send, 1000.0, lambda: now_s)
    fit = theil_sen(points)
    assert fit.s_per_byte == pytest.approx(slope, rel=1e-6)
    assert fit.at_zero_s == pytest.approx(fixed_s, rel=1e-3, abs=1e-9)
    assert largest <= 4 << 20


@given(st.floats(1e-9, 1e-3), st.floats(0, 1e-3))
def test_a_link_that_is_faster_than_its_ends_has_only_a_lower_bound(
    s_per_byte: float, handling: float
) -> None:
    fit = theil_sen([(1000, 0.1 + 1000 * s_per_byte), (10**6, 0.1 + 10**6 * s_per_byte)])
    way = way_from(fit, handling, 10**6, 2)
    assert way.at_least_mbit_s == pytest.approx(8e-6 / s_per_byte, rel=1e-3)
    if way.mbit_s is None:
        assert handling > 0.8 * s_per_byte
    else:
        assert way.mbit_s >= way.at_least_mbit_s


@given(st.lists(st.floats(0, 1), max_size=20))
def test_jitter_is_no_more_than_the_largest_step(samples: list[float]) -> None:
    steps = [abs(b - a) for a, b in pairwise(samples)]
    assert 0 <= jitter_s(samples) <= max(steps, default=0.0)


def test_times_without_a_slope_are_no_error() -> None:
    fit = theil_sen([(1000, 0.2), (2000, 0.1), (3000, 0.1)])
    assert fit.s_per_byte == 0.0
    way = way_from(fit, 0.0, 3000, 3)
    assert way.mbit_s is None
    assert way.at_least_mbit_s == pytest.approx(3000 * 8e-6 / fit.at_zero_s)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentProcess, AgentProcess]]:
    folder = tmp_path_factory.mktemp("agents")
    with AgentProcess(folder / "a") as one, AgentProcess(folder / "b") as other:
        yield one, other


@pytest.fixture(scope="module")
def relayed(agents: tuple[AgentProcess, AgentProcess]) -> Iterator[str]:
    relay = Relay(Link(UP_MBIT_S, DOWN_MBIT_S, RTT_S), agents[1].address)
    yield relay.address
    relay.close()


def test_an_emulated_link_through_the_command(
    relayed: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    topology = tmp_path / "t.toml"
    topology.write_text(
        f'[hosts.camera]\n[hosts.server]\nagent = "{relayed}"\n'
        '[[links]]\nbetween = ["camera", "server"]\nbandwidth_mbit_s = 1\n'
    )
    done = partc(capfd, "link", "server", "-t", topology, "--json", "--budget", "12")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    # A busy machine delays messages, and never makes the link faster.
    assert 0.7 * UP_MBIT_S < found["up"]["mbit_s"] < 1.1 * UP_MBIT_S
    assert 0.7 * DOWN_MBIT_S < found["down"]["mbit_s"] < 1.1 * DOWN_MBIT_S
    assert RTT_S <= found["rtt_s"] < 3 * RTT_S
    assert 0 <= found["fixed_s"] < RTT_S and found["jitter_s"] >= 0
    pasted = tomllib.loads("[hosts.camera]\n[hosts.server]\n" + found["topology"])
    link = Topology.parse(pasted).link_between("camera", "server")
    assert link.mbit_s("camera") == pytest.approx(found["up"]["mbit_s"], rel=1e-3)
    assert link.mbit_s("server") == pytest.approx(found["down"]["mbit_s"], rel=1e-3)
    done = partc(capfd, "link", "server", "-t", topology, "--budget", "0.5")
    assert "camera to server" in done.out and "[[links]]" in done.out


def test_from_one_agent_to_another(agents: tuple[AgentProcess, AgentProcess], relayed: str) -> None:
    found = link_between(agents[0].address, relayed, None, 6.0, "camera")
    assert found.up.mbit_s is not None and found.down.mbit_s is not None
    assert 0.5 * UP_MBIT_S < found.up.mbit_s < 1.1 * UP_MBIT_S
    assert found.down.mbit_s < found.up.mbit_s
    assert found.rtt_s >= RTT_S


def test_a_link_without_a_relay_has_at_least_a_lower_bound(
    agents: tuple[AgentProcess, AgentProcess],
) -> None:
    found = link_to(agents[1].address, None, 2.0)
    assert found.up.at_least_mbit_s > 100
    entry = topology_entry(found, "camera", "server")
    assert Topology.parse(tomllib.loads("[hosts.camera]\n[hosts.server]\n" + entry)).links


def test_a_link_that_has_one_end(
    agents: tuple[AgentProcess, AgentProcess], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    topology = tmp_path / "t.toml"
    topology.write_text(f'[hosts.camera]\nagent = "{agents[0].address}"\n')
    done = partc(capfd, "link", "camera", "-t", topology, "--from", "camera")
    assert done.code == 2 and "two ends" in done.err
    done = partc(capfd, "link", "camera", "-t", topology, "--budget", "0.5")
    assert done.code == 0 and "--from HOST" in done.out and "[[links]]" not in done.out
    done = partc(capfd, "link", "camera", "-t", topology, "--budget", "nan")
    assert done.code == 2 and "finite" in done.err


def test_a_link_that_is_cut_meanwhile(agents: tuple[AgentProcess, AgentProcess]) -> None:
    import threading

    relay = Relay(Link(UP_MBIT_S, DOWN_MBIT_S, RTT_S), agents[1].address)
    timer = threading.Timer(3.0, relay.cut)
    timer.start()
    with pytest.raises(PartcError, match="cannot be"):
        link_to(relay.address, None, 60.0)
    relay.close()
    timer.cancel()


def test_what_is_no_agent(agents: tuple[AgentProcess, AgentProcess]) -> None:
    with pytest.raises(PartcError, match="cannot be reached"):
        link_to("127.0.0.1:9", None, 1.0)
    with pytest.raises(PartcError, match=r"127\.0\.0\.1:9"):
        link_between(agents[0].address, "127.0.0.1:9", None, 1.0)


def test_nobody_waits_for_it(agents: tuple[AgentProcess, AgentProcess]) -> None:
    with pytest.raises(HostUnreachableError, match="cancelled"):
        link_to(agents[1].address, None, 60.0, is_wanted=lambda: False)


def test_the_terms_of_a_message_are_measured() -> None:
    terms = measure_terms(("fp16", "lz4"))
    assert terms.write_s_per_byte >= 0 and terms.read_s_per_byte >= 0
    assert set(terms.encode_s_per_byte) == set(terms.decode_s_per_byte) == {"fp16", "lz4"}
    assert terms.encode_s_per_byte["fp16"] > 0


def test_a_node_tells_how_fast_its_codecs_are(
    agents: tuple[AgentProcess, AgentProcess],
) -> None:
    with AgentClient(agents[0].address, None) as client:
        meter = AgentMeter(client, "onnxruntime")
        assert isinstance(meter, KnowsCodecs)
        factors = meter.codec_factors(("fp16", "lz4"))
    assert set(factors) == {"fp16", "lz4"}
    for factor in factors.values():  # it is the same machine
        assert 0 <= factor.encode < math.inf and 0 <= factor.decode < math.inf
