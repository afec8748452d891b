"""A compiled portfolio in the runtime: chosen by conditions, by who is down, or by name."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from partc.bundle.reader import Bundle
from partc.errors import IntegrityError, UsageError
from partc.ir.topology import Topology
from partc.runtime.choice import PlanChooser
from partc.runtime.device import open_bundle
from partc.runtime.local import LocalDeployment
from tests.support.narrowing import OPS, Seconds, bundled, image
from tests.support.oracle import assert_same

RANGES = {"bandwidth_mbit_s": [0.05, 1000.0], "device_slowdown": [1, 5], "server_slowdown": [1, 10]}
COSTS: Seconds = {
    "camera": {op: 0.004 if op.startswith("/head") else 0.0005 for op in OPS},
    "server": 0.0002,
}
"""On the camera the part behind the narrow place is the dear one."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """At the declared 1 Mbit/s the plan is a split; slower links want the camera alone."""
    topology = Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [
                {"between": ["camera", "server"], "bandwidth_mbit_s": 1, "rtt_ms": 2, "fixed_ms": 0}
            ],
            "conditions": RANGES,
        }
    )
    return bundled(topology, COSTS, tmp_path_factory.mktemp("portfolio") / "bundle")


def test_the_plans_differ_and_the_chosen_one_is_a_split(bundle: Bundle) -> None:
    portfolio = bundle.manifest.portfolio
    assert portfolio is not None
    assert len(bundle.manifest.plan.segments) > 1
    assert {"device-only", "edge-only"} < {each.name for each in portfolio.plans}
    assert portfolio.certified_fraction == 1.0


def test_segments_and_weights_are_stored_once(bundle: Bundle) -> None:
    digests = [
        (Path(path).parent, entry.sha256)
        for path, entry in bundle.manifest.files.items()
        if path.startswith("hosts/")
    ]
    assert len(set(digests)) == len(digests), "a host has the same file twice"
    weights_bytes = 864 + 4608 + 9216 + 640
    camera = bundle.manifest.hosts["camera"]
    names = {a.path for a in (*camera.artefacts.values(), *camera.fallback.values())}
    stored = sum(
        entry.size_bytes
        for path, entry in bundle.manifest.files.items()
        if path in names or path == "hosts/camera/weights.data"
    )
    assert len(names) >= 4
    assert stored < weights_bytes + 3000 * len(names)
    once = {s.id: s for plan in bundle.manifest.plans for s in plan.segments}
    assert len({(s.host, *s.ops) for s in once.values()}) == len(once)


def test_a_changed_file_of_weights_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    data = copy / "hosts/camera/weights.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"weights\.data"):
        open_bundle(copy, addresses={"server": "127.0.0.1:1"})


def test_every_plan_gives_the_whole_answer_and_conditions_choose(bundle: Bundle) -> None:
    feeds, expected = bundle.golden()
    with LocalDeployment(bundle, emulate_links=False) as local:
        deployment = local.deployment
        portfolio = bundle.manifest.portfolio
        assert portfolio is not None
        assert deployment.plans == ("chosen", *(each.name for each in portfolio.plans))
        assert _until_plan(local, "chosen")
        for name in deployment.plans:
            answer = deployment.request(feeds, name)
            assert answer.plan == name
            assert not answer.failures
            assert_same(answer.outputs, expected)
        assert deployment.request(feeds).plan == "chosen"

        for mbit_s, device, wanted in ((0.05, 1.0, "device-only"), (1000.0, 5.0, "edge-only")):
            deployment.observe(bandwidth_mbit_s=mbit_s, device_slowdown=device)
            answer = deployment.request(feeds)
            assert answer.plan == wanted
            hosts = {segment.host for segment in answer.segments}
            assert hosts == ({"camera"} if wanted == "device-only" else {"server"})
            assert_same(answer.outputs, expected)
        with pytest.raises(UsageError, match="Did you mean 'edge-only'"):
            deployment.request(feeds, "edge-onyl")
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="bandwidth_mbit_s must be a positive number"):
                deployment.observe(bandwidth_mbit_s=value)
        assert deployment.request(feeds).plan == "edge-only", (
            "a refused observation changes nothing"
        )


def test_a_host_that_is_down_is_planned_around(bundle: Bundle) -> None:
    """The first request after the death pays for finding out, the next ones do not."""
    feeds, expected = bundle.golden()
    with LocalDeployment(bundle, emulate_links=False, deadline_s=2.0) as local:
        assert _until_plan(local, "chosen")
        local.stop_host("server")
        first = local.request(feeds)
        while not first.failures:  # the signal may take a moment
            first = local.request(feeds)
        assert first.latency_s >= 2.0
        for _ in range(5):
            answer = local.request(feeds)
            assert answer.plan == "device-only"
            assert not answer.failures
            assert answer.latency_s < 0.5
            assert_same(answer.outputs, expected)
        local.continue_host("server")
        assert _until_plan(local, "chosen")
        local.kill_host("server")
        assert_same(local.request(feeds).outputs, expected)
        assert local.request(feeds).plan == "device-only"
        local.restart_host("server")
        assert _until_plan(local, "chosen")


def _until_plan(local: LocalDeployment, name: str) -> bool:
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        if local.request(image()).plan == name:
            return True
        time.sleep(0.05)
    return False


def test_choosing_is_a_dot_product(bundle: Bundle) -> None:
    portfolio = bundle.manifest.portfolio
    assert portfolio is not None
    chooser = PlanChooser(bundle.manifest)
    draw = np.random.default_rng(3)
    for _ in range(50):
        seen = {
            "bandwidth_mbit_s": float(10 ** draw.uniform(-1, 3)),
            "rtt_s": float(draw.uniform(0, 0.1)),
            "device_slowdown": float(draw.uniform(1, 5)),
            "server_slowdown": float(draw.uniform(1, 10)),
        }
        chooser.observe(**seen)
        costs = {
            each.name: each.cost.constant_s
            + each.cost.device_s * seen["device_slowdown"]
            + each.cost.server_s * seen["server_slowdown"]
            + each.cost.sent_bytes * 8e-6 / seen["bandwidth_mbit_s"]
            + each.cost.round_trips * seen["rtt_s"]
            for each in portfolio.plans
        }
        assert chooser.latencies_s() == pytest.approx(costs)
        assert chooser.choose(lambda host: None).name == min(costs, key=costs.__getitem__)


def test_every_declared_host_may_be_lost(bundle: Bundle) -> None:
    portfolio = bundle.manifest.portfolio
    assert portfolio is not None
    assert any("server" in each.survives for each in portfolio.plans)
    assert not any("camera" in each.survives for each in portfolio.plans), "requests start there"


def test_a_bundle_with_one_plan_has_nothing_to_choose(bundle: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    data = json.loads((copy / "manifest.json").read_text())
    data["portfolio"] = None
    keep = {segment["id"] for segment in data["plan"]["segments"]}
    for host in data["hosts"].values():
        for kind in ("artefacts", "fallback"):
            host[kind] = {name: file for name, file in host[kind].items() if name in keep}
    (copy / "manifest.json").write_text(json.dumps(data))
    with LocalDeployment(copy, emulate_links=False) as local:
        assert local.deployment.plans == ("chosen",)
        assert local.request(image()).plan == "chosen"
        with pytest.raises(UsageError, match="one plan only"):
            local.deployment.observe(bandwidth_mbit_s=1.0)
