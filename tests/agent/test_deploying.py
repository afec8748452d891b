"""Bundles that are sent to agents, served, replaced, and refused."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from partc.agent.deploy import agents_of, deploy
from partc.agent.messages import BundleId, Offer
from partc.agent.wire.client import AgentBusyError, AgentClient
from partc.bundle.manifest import MANIFEST_NAME
from partc.bundle.reader import Bundle
from partc.errors import IntegrityError, TargetError, UsageError
from partc.runtime.device import Answer, Deployment, open_bundle
from partc.targets.protocol import RunSettings, Sampling
from tests.agent.support import AgentProcess
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

QUICK = Sampling(repeats=5, budget_s=1.0, pause_s=0.0)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path / "state") as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_bundle(tmp_path / "bundle", plans.two_hosts()))


def device(bundle: Bundle, address: str) -> Deployment:
    return open_bundle(bundle, addresses={"server": address})


def answer(opened: Deployment, factor: float = 6.0) -> Answer:
    feeds = plans.sample()
    found = opened.request(feeds)
    np.testing.assert_allclose(found.outputs["y"], factor * feeds["x"], rtol=1e-5)
    return found


def changed(tmp_path: Path, **settings: Any) -> Bundle:
    """Another version of the bundle: the same answer from another server segment."""
    drawing = plans.there_and_back(**settings)
    return Bundle.open(write_bundle(tmp_path / "other", drawing))


def test_deploy_run_and_deploy_again(agent: AgentProcess, bundle: Bundle, tmp_path: Path) -> None:
    with AgentClient(agent.address, None) as client:
        assert client.describe().serving is None
    with device(bundle, agent.address) as opened:
        assert answer(opened).finished_locally
    (done,) = deploy(bundle, {"server": agent.address}, None)
    assert done.files > 0 and done.sent_bytes > 0 and not done.was_there
    with AgentClient(agent.address, None) as client:
        serving = client.describe().serving
        assert serving is not None and serving.host == "server"
        assert serving.identity == bundle.identity
    with device(bundle, agent.address) as opened:
        assert not answer(opened).finished_locally
        (again,) = deploy(bundle, {"server": agent.address}, None)
        assert again.was_there and again.sent_bytes == 0
        assert not answer(opened).finished_locally
        other = changed(tmp_path)
        deploy(other, {"server": agent.address}, None)
        with device(other, agent.address) as newer:
            assert not answer(newer, 36.0).finished_locally
    end_s = time.monotonic() + 30
    while len([path for path in (tmp_path / "state" / "bundles").iterdir() if path.is_dir()]) > 1:
        assert time.monotonic() < end_s, "the bundle before is not removed"
        time.sleep(0.05)
    (back,) = deploy(bundle, {"server": agent.address}, None)
    assert back.sent_bytes == 0 and not back.was_there


def test_an_agent_serves_again_what_it_served(
    agent: AgentProcess, bundle: Bundle, tmp_path: Path
) -> None:
    deploy(bundle, {"server": agent.address}, None)
    said = agent.stop()
    assert "Traceback" not in said
    with AgentProcess(tmp_path / "state") as later:
        assert later.node["serving"]["host"] == "server"
        with device(bundle, later.address) as opened:
            assert not answer(opened).finished_locally
        later.send(signal.SIGKILL)
    for model in (tmp_path / "state" / "bundles").rglob("*.onnx"):
        model.write_bytes(b"damaged")
    with AgentProcess(tmp_path / "state") as damaged:
        assert damaged.node["serving"] is None
        assert "cannot be served again" in damaged.first_words()
        deploy(bundle, {"server": damaged.address}, None)
        with device(bundle, damaged.address) as opened:
            assert not answer(opened).finished_locally


def test_requests_go_on_while_another_bundle_comes(
    agent: AgentProcess, bundle: Bundle, tmp_path: Path
) -> None:
    """Requests that began with the old bundle are finished with it, also in their later calls."""
    old = changed(tmp_path)
    deploy(old, {"server": agent.address}, None)
    stop = threading.Event()
    failures: list[str] = []
    made: list[int] = []

    def send() -> None:
        with device(old, agent.address) as opened:
            while not stop.is_set():
                found = answer(opened, 36.0)
                made.append(1)
                failures.extend(found.failures)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(made) < 30:
        time.sleep(0.01)
    deploy(bundle, {"server": agent.address}, None)
    before = len(made)
    while len(made) < before + 30:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(30)
    # The old one is kept for as long as requests for it come, up to half a minute.
    assert failures == []
    with device(bundle, agent.address) as opened:
        assert not answer(opened).finished_locally


def test_nothing_is_measured_while_requests_are_served(agent: AgentProcess, bundle: Bundle) -> None:
    from partc.agent.meter import AgentMeter

    deploy(bundle, {"server": agent.address}, None)
    with device(bundle, agent.address) as opened, AgentClient(agent.address, None) as client:
        meter = AgentMeter(client, "onnxruntime")
        model, feeds = tiny_model()
        answer(opened)
        with pytest.raises(AgentBusyError, match="is busy serving requests"):
            meter.run_times(model, feeds, RunSettings(), QUICK)
        # What takes no times disturbs nothing.
        assert meter.detect().available and meter.unsupported(model) == {}
        time.sleep(2.5)
        assert meter.run_times(model, feeds, RunSettings(), QUICK)


def tiny_model() -> tuple[onnx.ModelProto, dict[str, Any]]:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"], name="n")], "g",
        [info("x", onnx.TensorProto.FLOAT, [1])], [info("y", onnx.TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    return model, {"x": np.zeros(1, np.float32)}


def manifest_text(bundle: Bundle, change: Callable[[dict[str, Any]], None] = lambda m: None) -> str:
    data = json.loads((bundle.path / MANIFEST_NAME).read_text())
    change(data)
    return json.dumps(data)


def rename_file(name: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        artefact = manifest["hosts"]["server"]["artefacts"]["s1"]
        manifest["files"][name] = manifest["files"].pop(artefact["path"])
        artefact["path"] = name

    return change


def resize(manifest: dict[str, Any]) -> None:
    for entry in manifest["files"].values():
        entry["size_bytes"] = 1 << 50


def _needed(manifest: dict[str, Any]) -> dict[str, Any]:
    path = manifest["hosts"]["server"]["artefacts"]["s1"]["path"]
    entry: dict[str, Any] = manifest["files"][path]
    return entry


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "a path that leaves the folder": rename_file("../../evil.onnx"),
    "an absolute path": rename_file("/etc/evil.onnx"),
    "a path with a backslash": rename_file("..\\evil.onnx"),
    "a path with a zero": rename_file("a\0b"),
    "the manifest's own name": rename_file("manifest.json"),
    "an enormous size": resize,
    "a negative size": lambda m: m["files"].update(x={"sha256": "0" * 64, "size_bytes": -1}),
    "a digest that nobody sends": lambda m: _needed(m).update(sha256="0" * 64),
    "a digest that is a path": lambda m: m["files"].update(
        x={"sha256": "../" * 10, "size_bytes": 1}
    ),
    "a newer schema": lambda m: m.update(schema_version=99),
    "another shape": lambda m: m.update(plan=[]),
    "an address of another kind": lambda m: m["hosts"]["server"].update(address="unix:/tmp/x"),
}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("lasting")) as running:
        yield running


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests(name: str, lasting: AgentProcess, bundle: Bundle) -> None:
    text = manifest_text(bundle, HOSTILE[name])
    with AgentClient(lasting.address, None, "server") as client:
        with pytest.raises(TargetError) as caught:
            offered = client.offer(Offer(host="server", manifest=text))
            needed = {
                entry.sha256: bundle.path / path for path, entry in bundle.manifest.files.items()
            }
            client.send(needed)
            client.prepare(BundleId(id=offered.id))
        assert "host 'server'" in str(caught.value) and len(str(caught.value)) < 1000
        assert client.describe().serving is None
    outside = {path.name for path in lasting.state.iterdir()}
    assert outside == {"lock", "files", "bundles", "working"}
    assert not list((lasting.state / "bundles").iterdir())


def test_offers_that_make_no_sense(lasting: AgentProcess, bundle: Bundle) -> None:
    with AgentClient(lasting.address, None) as client:
        with pytest.raises(TargetError, match="not valid JSON"):
            client.offer(Offer(host="server", manifest="{"))
        with pytest.raises(TargetError, match="not valid JSON"):
            client.offer(Offer(host="server", manifest="[" * 100_000))
        with pytest.raises(TargetError, match="Did you mean 'server'"):
            client.offer(Offer(host="sever", manifest=manifest_text(bundle)))
        with pytest.raises(TargetError, match="deploy again"):
            client.prepare(BundleId(id="0" * 64))
        with pytest.raises(TargetError, match="deploy again"):
            client.activate(BundleId(id="0" * 64))
        unheard_of = manifest_text(bundle, lambda m: _needed(m).update(sha256="1" * 64))
        offered = client.offer(Offer(host="server", manifest=unheard_of))
        with pytest.raises(TargetError, match="send it first"):
            client.prepare(BundleId(id=offered.id))
        with pytest.raises(TargetError, match="deploy again"):
            client.activate(BundleId(id=offered.id))


def test_files_that_are_not_what_was_announced(lasting: AgentProcess, tmp_path: Path) -> None:
    import hashlib

    digest = hashlib.sha256(b"good").hexdigest()
    bad = tmp_path / "bad"
    bad.write_bytes(b"evil")
    with AgentClient(lasting.address, None) as client:
        with pytest.raises(TargetError, match="not the file that was announced"):
            client.send({digest: bad})
        assert client.send({digest: b"good"}) == 4
    assert not list((lasting.state / "files" / "incoming").iterdir())


def test_a_part_that_is_too_large(bundle: Bundle, tmp_path: Path) -> None:
    drawing = plans.two_hosts()
    big = Bundle.open(write_bundle(tmp_path / "big", drawing))
    text = manifest_text(big)
    data = json.loads(text)
    path = data["hosts"]["server"]["artefacts"]["s1"]["path"]
    data["files"][path]["size_bytes"] = 2 << 20
    options = ("--largest-bundle-mib", "1")
    with (
        AgentProcess(tmp_path / "small", *options) as agent,
        AgentClient(agent.address, None) as client,
        pytest.raises(TargetError, match="--largest-bundle-mib"),
    ):
        client.offer(Offer(host="server", manifest=json.dumps(data)))


def test_a_bundle_that_was_changed_is_not_sent(bundle: Bundle) -> None:
    path = bundle.path / bundle.artefact_name("server", "s1")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        deploy(bundle, {"server": "127.0.0.1:9"}, None)


def test_which_hosts_have_agents(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no host of bundle"):
        agents_of(bundle, {}, ())
    with pytest.raises(UsageError, match="Did you mean 'server'"):
        agents_of(bundle, {"sever": "a:1"}, ())
    with pytest.raises(UsageError, match="'camera' has no agent"):
        agents_of(bundle, {"server": "a:1"}, ("camera",))
    assert agents_of(bundle, {"server": "a:1"}, ()) == {"server": "a:1"}
    with pytest.raises(UsageError, match="start an agent for each"):
        deploy(bundle, {"server": "127.0.0.1:1", "camera": "127.0.0.1:1"}, None)


def test_hosts_are_told_where_the_others_agents_are(tmp_path: Path) -> None:
    """The topology has no agents: each is given on the command line, and the server is called by
    another server."""
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", plans.chain()))
    with AgentProcess(tmp_path / "a") as one, AgentProcess(tmp_path / "b") as other:
        agents = {"gateway": one.address, "server": other.address}
        deploy(bundle, agents, None)
        with open_bundle(bundle, addresses={"gateway": one.address}) as opened:
            found = answer(opened, 36.0)
            assert {run.host for run in found.segments} == {"camera", "gateway", "server"}
            assert not found.failures and not found.avoided
        assert all(each.was_there for each in deploy(bundle, agents, None))


def test_one_agent_that_is_missing_leaves_the_others_as_they_are(
    agent: AgentProcess, bundle: Bundle
) -> None:
    with pytest.raises(TargetError, match=r"host 'camera'.*cannot be reached"):
        deploy(bundle, {"server": agent.address, "camera": "127.0.0.1:9"}, None)
    with AgentClient(agent.address, None) as client:
        assert client.describe().serving is None


def test_a_disk_that_is_full(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partc.agent.blobs import BlobStore
    from partc.errors import RequestError

    blobs = BlobStore(tmp_path / "files", 1 << 30)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100, "total": 100})
    )
    with pytest.raises(RequestError, match="no room"):
        blobs.receive("0" * 64, 10, lambda: b"")
