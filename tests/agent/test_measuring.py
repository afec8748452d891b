"""Measuring on a node through its agent: a process of its own, over a real socket."""

from __future__ import annotations

import hashlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from partc import Topology
from partc.agent.messages import Job, JobEvent, sampling_to_plain, settings_to_plain
from partc.agent.meter import AgentMeter, agent_meters, notices
from partc.agent.packing import pack
from partc.agent.wire.client import AgentBusyError, AgentClient
from partc.errors import MissingBackendError, TargetError, UsageError
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import load_backend
from tests.agent.support import AgentProcess
from tests.cli.support import small_model
from tests.support.nasty_models import NASTY

QUICK = Sampling(repeats=5, budget_s=1.0, pause_s=0.0)
FEW = Sampling(repeats=3, budget_s=0.1, pause_s=0.0)
LONG = Sampling(repeats=100_000, budget_s=300.0, pause_s=0.01, precision=1e-9)
SETTINGS = RunSettings()
FEEDS = {"x": np.zeros((1, 1, 64, 64), np.float32)}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def client(agent: AgentProcess) -> Iterator[AgentClient]:
    with AgentClient(agent.address, None, "camera") as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load(small_model(tmp_path_factory.mktemp("model") / "m.onnx"))


def test_the_node_is_described(agent: AgentProcess, client: AgentClient) -> None:
    import os

    node = client.describe()
    assert node.processor.cores == os.cpu_count()
    assert 0 < node.memory_available_bytes < node.memory_bytes
    states = {state.name: state for state in node.backends}
    assert states["onnxruntime"].available
    assert states["onnxruntime"].fingerprint.startswith("onnxruntime-")
    assert node.serving is None and node.measuring == ""
    assert agent.node["processor"]["name"] == node.processor.name


def test_what_it_finds_is_what_is_found_here(client: AgentClient, model: onnx.ModelProto) -> None:
    here = LocalMeter(load_backend("onnxruntime"))
    there = AgentMeter(client, "onnxruntime")
    assert there.detect() == here.detect()
    assert there.backend_name == here.backend_name
    assert there.unsupported(model) == here.unsupported(model) == {}
    assert there.fused_groups(model, SETTINGS) == here.fused_groups(model, SETTINGS)
    one = here.profile(model, FEEDS, SETTINGS, QUICK)
    other = there.profile(model, FEEDS, SETTINGS, QUICK)
    assert set(one.op_s) == set(other.op_s)
    assert len(other.whole_s) >= 3 and all(value > 0 for value in other.whole_s)
    assert len(there.run_times(model, FEEDS, SETTINGS, QUICK)) >= 3
    measured = there.measure_runs(model, FEEDS, SETTINGS, QUICK)
    assert measured.conditions.cores > 0
    rows = there.interleaved_times([(model, FEEDS), (model, FEEDS)], SETTINGS, QUICK)
    assert len(rows) == 2 and len(rows[0]) == len(rows[1]) >= 3


def test_what_was_sent_once_is_not_sent_again(client: AgentClient) -> None:
    big = np.arange(1 << 16, dtype=np.float32)
    first = one_op_model("Add", big)
    second = one_op_model("Mul", big)
    sent = [client.send(dict(pack(each).pieces)) for each in (first, second, first)]
    assert sent[0] > big.nbytes > sent[1] > 0
    assert sent[2] == 0
    client.forget_sent()
    assert client.send(dict(pack(first).pieces)) == 0
    meter = AgentMeter(client, "onnxruntime")
    feeds = {"x": np.zeros(1 << 16, np.float32)}
    assert meter.run_times(first, feeds, SETTINGS, QUICK)


def one_op_model(op: str, weight: np.ndarray[tuple[int], np.dtype[np.float32]]) -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x", "w"], ["y"], name="op")],
        "one",
        [value("x", onnx.TensorProto.FLOAT, weight.shape)],
        [value("y", onnx.TensorProto.FLOAT, weight.shape)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )


def test_what_cannot_be_measured_is_a_sentence(client: AgentClient, model: onnx.ModelProto) -> None:
    with pytest.raises(TargetError, match=r"host 'camera' at 127.*There is no backend named"):
        AgentMeter(client, "onnxruntim").detect()
    meter = AgentMeter(client, "onnxruntime")
    with pytest.raises(TargetError, match="does not run on the sample"):
        meter.profile(model, {"x": np.zeros((1, 3), np.float32)}, SETTINGS, QUICK)
    with pytest.raises(TargetError, match="optimisation level"):
        meter.profile(model, FEEDS, RunSettings(optimization="most"), QUICK)
    with pytest.raises(TargetError, match="0 threads"):
        meter.profile(model, FEEDS, RunSettings(threads=0), QUICK)
    assert meter.run_times(model, FEEDS, SETTINGS, QUICK)


@pytest.mark.parametrize("name", NASTY)
def test_nasty_models_run_there_as_they_do_here(name: str, client: AgentClient) -> None:
    """Texts, half precision, scalars and sparse weights arrive too."""
    nasty = NASTY[name]()
    here, there = LocalMeter(load_backend("onnxruntime")), AgentMeter(client, "onnxruntime")
    try:
        here.run_times(nasty.model, nasty.feeds, SETTINGS, FEW)
    except TargetError as error:
        with pytest.raises(TargetError, match=re.escape(str(error)[:40])):
            there.run_times(nasty.model, nasty.feeds, SETTINGS, FEW)
    else:
        assert there.run_times(nasty.model, nasty.feeds, SETTINGS, FEW)


def test_an_agent_that_hangs_while_it_measures(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partc.agent.wire.client.SILENCE_S", 4.0)
    with AgentProcess(tmp_path) as agent, AgentClient(agent.address, None, "camera") as client:
        running = Background(client, model)
        running.await_begun(client)
        agent.send(signal.SIGSTOP)
        assert "has said nothing for 4 s" in running.error_of()


def test_requests_go_before_measurements(model: onnx.ModelProto, tmp_path: Path) -> None:
    from partc.agent.deploy import deploy
    from partc.bundle.reader import Bundle
    from partc.runtime.device import open_bundle
    from tests.runtime import plans
    from tests.runtime.handmade import write_bundle

    bundle = Bundle.open(write_bundle(tmp_path / "bundle", plans.two_hosts()))
    for options in ((), ("--measure-while-serving",)):
        with (
            AgentProcess(tmp_path / f"state{len(options)}", *options) as agent,
            AgentClient(agent.address, None) as client,
        ):
            deploy(bundle, {"server": agent.address}, None)
            running = Background(client, model)
            running.await_begun(client)
            with open_bundle(bundle, addresses={"server": agent.address}) as device:
                assert not device.request(plans.sample()).finished_locally
                if not options:
                    assert "requests came while it measured" in running.error_of()
                    continue
                assert not device.request(plans.sample()).finished_locally
                assert client.describe().measuring
        running.error_of()


def long_job(client: AgentClient, model: onnx.ModelProto) -> Job:
    packed = pack(model)
    raw = FEEDS["x"].tobytes()
    import hashlib

    digest = hashlib.sha256(raw).hexdigest()
    client.send({**packed.pieces, digest: raw})
    feed = {"name": "x", "datatype": "FP32", "shape": [1, 1, 64, 64], "sha256": digest}
    return Job.model_validate(
        {
            "kind": "run-times", "backend": "onnxruntime",
            "subjects": [{"graph": packed.digest, "feeds": [feed]}],
            "settings": settings_to_plain(SETTINGS), "sampling": sampling_to_plain(LONG),
        }
    )  # fmt: skip


class Background:
    """A long measurement in a thread, and how it ended."""

    def __init__(self, client: AgentClient, model: onnx.ModelProto) -> None:
        self.client = client
        self.error: BaseException | None = None
        self.answer: JobEvent | None = None
        job = long_job(client, model)
        self.thread = threading.Thread(target=self._work, args=(job,))
        self.thread.start()

    def _work(self, job: Job) -> None:
        try:
            self.answer = self.client.measure(job)
        except BaseException as error:
            self.error = error

    def await_begun(self, other: AgentClient) -> None:
        end_s = time.monotonic() + 60
        while not other.describe().measuring:
            assert time.monotonic() < end_s and self.thread.is_alive(), self.error
            time.sleep(0.05)

    def error_of(self) -> str:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return str(self.error)


def test_one_measurement_at_a_time_and_one_that_nobody_waits_for_ends(
    agent: AgentProcess, client: AgentClient, model: onnx.ModelProto
) -> None:
    with AgentClient(agent.address, None) as first:
        running = Background(first, model)
        running.await_begun(client)
        assert "measuring a segment" in client.describe().measuring
        with pytest.raises(AgentBusyError, match=r"host 'camera'.*is busy measuring a segment"):
            client.measure(long_job(client, model))
    running.error_of()
    end_s = time.monotonic() + 30
    while client.describe().measuring:
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert AgentMeter(client, "onnxruntime").run_times(model, FEEDS, SETTINGS, QUICK)


def test_an_agent_that_dies_while_it_measures(model: onnx.ModelProto, tmp_path: Path) -> None:
    with AgentProcess(tmp_path) as agent, AgentClient(agent.address, None, "camera") as client:
        running = Background(client, model)
        running.await_begun(client)
        (worker,) = workers_of(agent)
        agent.send(signal.SIGKILL)
        said = running.error_of()
        assert "host 'camera'" in said and "ended while it measured" in said
        assert "what was measured before is kept" in said
        end_s = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() < end_s, "the process that measured outlives its agent"
            time.sleep(0.05)


def test_the_process_that_measures_dies(
    agent: AgentProcess, client: AgentClient, model: onnx.ModelProto
) -> None:
    with AgentClient(agent.address, None) as other:
        running = Background(other, model)
        running.await_begun(client)
        workers = workers_of(agent)
        assert len(workers) == 1
        import os

        os.kill(workers[0], signal.SIGSEGV)
        assert "ended by SIGSEGV" in running.error_of()
    assert AgentMeter(client, "onnxruntime").run_times(model, FEEDS, SETTINGS, QUICK)


def workers_of(agent: AgentProcess) -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"partc.agent.worker" in _bytes(path) and _parent(path.parent) == agent.process.pid
    ]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_sigterm_leaves_nothing_behind(model: onnx.ModelProto, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with AgentProcess(tmp_path / "state", temporary=temporary) as agent:
        with AgentClient(agent.address, None) as client:
            AgentMeter(client, "onnxruntime").profile(model, FEEDS, SETTINGS, QUICK)
            running = Background(client, model)
            with AgentClient(agent.address, None) as other:
                running.await_begun(other)
            said = agent.stop()
            assert "Traceback" not in said and "agent stopped" in said
            assert "the agent was stopped" in running.error_of()
        assert agent.process.returncode == 0
    assert not list(temporary.iterdir())
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"lock", "files", "bundles"}
    assert not list((tmp_path / "state" / "files" / "incoming").iterdir())


def test_an_agent_that_dies_while_it_takes_a_file(tmp_path: Path) -> None:
    """Or before the next question: the client says so within seconds, whatever is under way."""
    with (
        AgentProcess(tmp_path / "state") as agent,
        AgentClient(agent.address, None, "camera") as client,
    ):
        client.describe()
        agent.send(signal.SIGSTOP)
        large = b"x" * (64 << 20)
        failed: list[str] = []

        def put() -> None:
            try:
                client.send({hashlib.sha256(large).hexdigest(): large})
            except TargetError as error:
                failed.append(str(error))

        putting = threading.Thread(target=put)
        putting.start()
        putting.join(timeout=1.0)
        assert putting.is_alive()
        agent.send(signal.SIGKILL)
        putting.join(timeout=20.0)
        assert not putting.is_alive()
        assert "host 'camera'" in failed[0]
        begun_s = time.monotonic()
        with pytest.raises(TargetError, match="host 'camera'"):
            client.describe()
        assert time.monotonic() - begun_s < 20.0


def test_who_has_an_answer_may_ask_again_at_once(tmp_path: Path) -> None:
    """The answer arrives when the agent is free, and not a moment before."""
    from partc.agent.daemon import Agent

    job = Job(kind="detect", backend="onnxruntime")
    with Agent("127.0.0.1:0", tmp_path) as agent:
        events = agent.carry_out(job, lambda: True)
        assert next(event for event in events if event.state == "done")
        assert agent.describe().measuring == ""
        assert next(e for e in agent.carry_out(job, lambda: True) if e.state == "done")


def test_two_agents_cannot_share_a_folder(agent: AgentProcess) -> None:
    from partc.agent.daemon import Agent

    with pytest.raises(UsageError, match="another agent keeps its files"):
        Agent("127.0.0.1:0", agent.state)


def test_an_agent_does_not_start_open(tmp_path: Path) -> None:
    from partc.agent.daemon import Agent

    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:8600"):
        with pytest.raises(UsageError, match="without credentials"):
            Agent(listen, tmp_path)
    with pytest.raises(UsageError, match="HOST:PORT"):
        Agent("nowhere", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_agents_of_a_topology(
    agent: AgentProcess, tmp_path: Path, model: onnx.ModelProto
) -> None:
    topology = Topology.parse(
        {"hosts": {"camera": {"agent": agent.address}, "server": {}},
         "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 1}]}
    )  # fmt: skip
    known = tmp_path / "agents.json"
    meters = agent_meters(topology, None, known=known)
    assert list(meters) == ["camera"] and notices(meters) == ()
    assert agent.address in meters["camera"].where
    known.write_text(known.read_text().replace("onnxruntime-", "onnxruntime-0."))
    changed = notices(agent_meters(topology, None, known=known))
    assert len(changed) == 1 and "is another node than before" in changed[0]
    assert notices(agent_meters(topology, None, known=known)) == ()
    known.write_text("[]")
    assert notices(agent_meters(topology, None, known=known)) == ()


def test_agents_that_are_not_there(agent: AgentProcess, tmp_path: Path) -> None:
    def hosts(agent: str, target: str = "onnxruntime-cpu") -> Topology:
        return Topology.parse({"hosts": {"camera": {"agent": agent, "target": target}}})

    known = tmp_path / "agents.json"
    with pytest.raises(TargetError, match=r"host 'camera' at 127\.0\.0\.1:9.*cannot be reached"):
        agent_meters(hosts("127.0.0.1:9"), None, known=known)
    with pytest.raises(UsageError, match="needs credentials"):
        agent_meters(hosts("camera.lan:8600"), None, known=known)
    with pytest.raises(TargetError, match=r"target 'raspberry-pi-5' is .*; correct"):
        agent_meters(hosts(agent.address, "raspberry-pi-5"), None, known=known)
    target = tmp_path / "rtx.toml"
    target.write_text('backend = "tensorrt-rtx"\n')
    with pytest.raises(MissingBackendError, match="cannot measure target"):
        agent_meters(hosts(agent.address, str(target)), None, known=known)


def test_another_node_answers_in_the_middle(client: AgentClient, model: onnx.ModelProto) -> None:
    meter = AgentMeter(client, "onnxruntime")
    from dataclasses import replace

    meter._detected = replace(meter.detect(), fingerprint="another")
    with pytest.raises(TargetError, match="is not what it was a moment ago"):
        meter.fused_groups(model, SETTINGS)
