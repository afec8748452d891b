"""Compiled bundles whose servers are joined with each other, run on processes of their own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from partc.bundle.exchanges import pushes_of
from partc.ir.topology import Topology
from partc.runtime.device import Answer
from partc.runtime.local import LocalDeployment
from tests.support.narrowing import Seconds, bundled, image
from tests.support.oracle import assert_same

PRICES: Seconds = {"phone": 0.004, "robot": 0.001, "server": 0.0002}
PINS = {"phone": ["/stem/*"], "robot": ["/body*"], "server": ["/neck/*", "/head/*"]}
HOSTS: dict[str, Any] = {"phone": {}, "robot": {}, "server": {}}


def answered(topology: Topology, folder: Path) -> Answer:
    bundle = bundled(topology, PRICES, folder / "bundle")
    plan = bundle.manifest.plan
    feeds = image()
    ways = {(t.tensor, t.sender, t.receiver) for t in plan.transfers}
    carried = {(t, c.caller, c.host) for c in plan.calls if c.caller for t in c.inputs}
    carried |= {(t, c.host, c.caller) for c in plan.calls if c.caller for t in c.outputs}
    carried |= {(t, p.sender, p.receiver) for p in pushes_of(plan) for t in p.tensors}
    assert carried == ways, "what was priced is what is carried out"
    with LocalDeployment(bundle, deadline_s=30) as local:
        answer = local.request(feeds)
        assert not answer.failures
        whole = LocalDeployment(bundle, deadline_s=30, fallback="preload")
        with whole:
            whole.kill_host("server")
            alone = whole.request(feeds)
            assert alone.finished_locally
        assert_same(answer.outputs, alone.outputs)
    return answer


RATES: dict[str, Any] = {"bandwidth_mbit_s": 400, "rtt_ms": 2, "fixed_ms": 0}
BUS: dict[str, Any] = {"bus": [{"hosts": list(HOSTS), **RATES}]}
RING: dict[str, Any] = {
    "links": [{"between": list(pair), **RATES} for pair in itertools.combinations(HOSTS, 2)]
}


@pytest.mark.parametrize("joined", [BUS, RING], ids=["bus", "ring"])
def test_servers_that_are_joined(joined: dict[str, Any], tmp_path: Path) -> None:
    topology = Topology.parse({"hosts": HOSTS, **joined, "constraints": {"pin": PINS}})
    answer = answered(topology, tmp_path)
    assert [(p.sender, p.receiver) for p in answer.pushes] == [("robot", "server")]
    assert {(c.caller, c.host) for c in answer.calls} == {("phone", "robot"), ("phone", "server")}


def test_a_codec_of_a_push(tmp_path: Path) -> None:
    bus = [{"hosts": list(HOSTS), "bandwidth_mbit_s": 0.5, "rtt_ms": 2, "fixed_ms": 0}]
    constraints = {"pin": PINS, "codecs": ["fp16"], "loss_budget": 0.1}
    topology = Topology.parse({"hosts": HOSTS, "bus": bus, "constraints": constraints})
    bundle = bundled(topology, PRICES, tmp_path / "bundle")
    moved = {(t.sender, t.receiver): t for t in bundle.manifest.plan.transfers}
    with LocalDeployment(bundle, deadline_s=60) as local:
        answer = local.request(image())
    assert not answer.failures
    (push,) = answer.pushes
    transfer = moved["robot", "server"]
    assert transfer.codec == "fp16"
    assert transfer.bytes <= push.sent_bytes < transfer.bytes + 500
