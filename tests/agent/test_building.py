"""Engines that are built on a node through its agent: processes of their own, real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest

import partc
from partc.agent.builder import AgentBuilder
from partc.agent.messages import (
    Digests,
    EngineJob,
    FileName,
    Job,
    JobEvent,
    NodeDescription,
    SourceFile,
)
from partc.agent.packing import check_references
from partc.agent.wire.client import AgentClient
from partc.agent.wire.service import AgentService
from partc.bundle.reader import Bundle
from partc.errors import RequestError, TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe, Gpu, engine_key, source_digest
from partc.targets.engines import EngineSource
from tests.agent.support import AgentProcess
from tests.engines.test_end_to_end import SAMPLE, model_with_det
from tests.engines.test_feedback import COMPILE, GRAPH, TOPOLOGY, kinds_on
from tests.support.engine_hosts import camera_and_gpu
from tests.support.engines import machine, needs_builder
from tests.support.nasty_models import parsed
from tests.support.placements import QUICK
from tests.support.toy_plugin import environment_of, install_toy, output_of

TOY = Gpu(flavour="tensorrt_rtx", version="1.0.toy", compute_capability="8.9", platform="toy")
RECIPE = EngineRecipe(flavour="tensorrt_rtx")
KEY = engine_key(RECIPE, "0" * 64, TOY)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_toy(tmp_path_factory)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[AgentProcess]:
    refuses = {"PARTC_TOY_REFUSES": "Cos"}
    state = tmp_path_factory.mktemp("agent")
    with AgentProcess(state, packages=(installed,), variables=refuses) as running:
        yield running


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(parsed(GRAPH, {}).model.SerializeToString())
    camera_and_gpu(tmp_path, "toy-engines")  # writes the target's file
    target = tmp_path / "toy-engines.toml"
    target.write_text(target.read_text().replace('recognised_by = ["no such GPU"]', ""))
    return tmp_path


def topology_with(agent: str) -> str:
    target = 'target = "toy-engines.toml"'
    return TOPOLOGY.replace(target, f'{target}\nagent = "{agent}"')


def segment(folder: Path) -> EngineSource:
    graph = "g (float[1,8] x) => (float[1,8] y) { a = Relu(x) y = Exp(a) }"
    path = folder / "segment.onnx"
    path.write_bytes(parsed(graph, {}).model.SerializeToString())
    return EngineSource((path,))


@contextlib.contextmanager
def builder_of(agent: AgentProcess, backend: str = "toy-engines") -> Iterator[AgentBuilder]:
    with AgentClient(agent.address, None, "gpu") as client:
        yield AgentBuilder(client, backend, "tensorrt_rtx")


def test_a_segment_goes_there_and_an_engine_comes_back(agent: AgentProcess, tmp_path: Path) -> None:
    source, output = segment(tmp_path), tmp_path / "engine"
    with builder_of(agent) as builder:
        assert builder.builders(("8.9",)) == ((TOY,), "")
        builder.build(source, RECIPE, TOY, output)
        first = output.read_bytes()
        assert first == b"toy engine\n" + source.files[0].read_bytes()
        builder.build(source, RECIPE, TOY, output)  # what was sent once is known
    assert not [path for path in (agent.state / "working").iterdir() if "segment-" in path.name]


def test_what_the_builder_there_refuses_is_told_from_what_went_wrong(
    agent: AgentProcess, tmp_path: Path
) -> None:
    source, output = segment(tmp_path), tmp_path / "engine"
    graph = "g (float[1,8] x) => (float[1,8] y) { y = Cos(x) }"
    with builder_of(agent) as builder:
        other = TOY.model_copy(update={"version": "2.0"})
        with pytest.raises(TargetError, match=r"no engine is built here .* 2\.0") as caught:
            builder.build(source, RECIPE, other, output)
        assert not isinstance(caught.value, UnbuildableError)
        source.files[0].write_bytes(parsed(graph, {}).model.SerializeToString())
        with pytest.raises(UnbuildableError, match="the toy's builder has no tactic"):
            builder.build(source, RECIPE, TOY, output)
    assert not output.exists()


def test_compiling_builds_there_and_goes_around_what_is_refused_there(
    agent: AgentProcess, installed: Path, work: Path
) -> None:
    """This machine's builder would refuse nothing."""
    (work / "topology.toml").write_text(topology_with(agent.address))
    home = {"XDG_CACHE_HOME": str(work / "cache")}
    found = output_of([installed], *COMPILE, cwd=work, **home)
    assert "Cos" in kinds_on(found, "camera")
    assert any("as its builder found" in notice for notice in found["notices"])
    bundle = Bundle.open(work / "bundle")
    bundle.check()
    files = [file for e in bundle.manifest.hosts["gpu"].engines.values() for file in e.built]
    assert files
    for file in files:
        assert file.built_by == f"the agent of host 'gpu' at {agent.address}"
        assert file.build_s is not None
        assert (bundle.path / file.path).read_bytes().startswith(b"toy engine\n")


def test_an_agent_that_is_gone_leaves_the_engine_to_the_host(tmp_path: Path) -> None:
    with AgentClient("127.0.0.1:9", None, "gpu") as client:
        builder = AgentBuilder(client, "toy-engines", "tensorrt_rtx")
        builder.look()
        assert builder.notice == ""
        with pytest.raises(TargetError, match="cannot be reached"):
            builder.builders(None)


class TestCtrlC:
    @pytest.fixture
    def slow(self, tmp_path: Path, installed: Path) -> Iterator[tuple[AgentProcess, Path]]:
        pid = tmp_path / "pid"
        variables = {"PARTC_TOY_BUILD_S": "300", "PARTC_TOY_PID": str(pid)}
        with AgentProcess(tmp_path / "state", packages=(installed,), variables=variables) as agent:
            yield agent, pid

    def test_the_build_there_ends(
        self, slow: tuple[AgentProcess, Path], installed: Path, work: Path
    ) -> None:
        agent, pid = slow
        (work / "topology.toml").write_text(topology_with(agent.address))
        code = "from partc.cli.main import main; main()"
        running = subprocess.Popen(
            [sys.executable, "-c", code, *COMPILE, "--json"], cwd=work,
            env=environment_of([installed], XDG_CACHE_HOME=str(work / "cache")),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        _until(lambda: pid.exists() and pid.read_text().isdigit(), running)
        builder = int(pid.read_text())
        assert _lives(builder)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 130, said
        assert "Traceback" not in said
        _until(lambda: not _lives(builder))
        assert not (work / "bundle").exists()
        with builder_of(agent) as again:  # it is free for others
            assert again.builders(None)[0] == (TOY,)

    def test_what_it_is_at_is_told(self, slow: tuple[AgentProcess, Path], tmp_path: Path) -> None:
        agent, pid = slow
        told: list[tuple[str, float | None]] = []

        def stop(phase: str, fraction: float | None) -> None:
            told.append((phase, fraction))
            raise KeyboardInterrupt

        with builder_of(agent) as builder, pytest.raises(KeyboardInterrupt):
            builder.build(segment(tmp_path), RECIPE, TOY, tmp_path / "engine", progress=stop)
        assert told == [("trying tactics", 0.5)]
        _until(lambda: not _lives(int(pid.read_text())))

    def test_the_agent_ends_and_its_builder_with_it(
        self, slow: tuple[AgentProcess, Path], tmp_path: Path
    ) -> None:
        agent, pid = slow

        def end(phase: str, fraction: float | None) -> None:
            agent.send(signal.SIGKILL)

        with builder_of(agent) as builder, pytest.raises(TargetError, match="ended while it"):
            builder.build(segment(tmp_path), RECIPE, TOY, tmp_path / "engine", progress=end)
        _until(lambda: not _lives(int(pid.read_text())))


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _until(true: Callable[[], bool], running: subprocess.Popen[str] | None = None) -> None:
    deadline_s = time.monotonic() + 90
    while not true():
        if running is not None and running.poll() is not None:
            raise AssertionError(running.communicate())
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@needs_builder()
class TestRealEngines:
    @pytest.fixture(scope="class")
    @classmethod
    def node(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
        with AgentProcess(tmp_path_factory.mktemp("rtx")) as running:
            yield running

    def test_engines_are_built_on_the_node_and_are_those_of_this_machine(
        self, node: AgentProcess, tmp_path: Path
    ) -> None:
        made: list[Bundle] = []
        for name, more in (("there", {"agent": node.address}), ("here", {})):
            (tmp_path / name).mkdir()
            topology = camera_and_gpu(
                tmp_path / name, engine={"compute_capabilities": ["8.9"]}, precision="fp16", **more
            )
            output = tmp_path / name / "bundle"
            options: dict[str, Any] = {"pipeline": QUICK, "sample": SAMPLE, "use_store": False}
            made.append(partc.compile(model_with_det(), topology, output=output, **options))
        there, here = (
            [file for e in each.manifest.hosts["gpu"].engines.values() for file in e.built]
            for each in made
        )
        assert there and [file.key for file in there] == [file.key for file in here]
        assert all(node.address in file.built_by for file in there)
        assert not any(file.built_by for file in here)
        made[0].check()
        if machine("tensorrt_rtx").gpu is None:
            (said,) = [n for n in made[0].manifest.notices if "measures nothing" in n]
            assert "there is no GPU" in said

    def test_an_op_that_its_builder_refuses_is_placed_elsewhere(
        self, node: AgentProcess, tmp_path: Path
    ) -> None:
        topology = camera_and_gpu(
            tmp_path, engine={"compute_capabilities": ["7.5"]}, agent=node.address
        )
        made = partc.compile(
            model_with_det(), topology, output=tmp_path / "bundle", pipeline=QUICK,
            sample=SAMPLE, use_store=False,
        )  # fmt: skip
        hosts = {op: s.host for s in made.manifest.plan.segments for op in s.ops}
        assert [op for op, host in hosts.items() if host == "camera"] == ["make_m", "make_d"]


class LyingWork:
    """An agent that describes itself well and then gives whatever a test wants."""

    def __init__(self, node: Any, folder: Path) -> None:
        self.node, self.folder = node, folder
        self.answer: dict[str, Any] = {}
        self.data = b"engine"

    def describe(self) -> Any:
        return self.node

    def __getattr__(self, name: str) -> Any:
        """Whatever else an agent does is not asked for."""
        return NotImplementedError

    def missing(self, digests: Digests) -> Digests:
        return Digests(digests=[])

    def carry_out(self, job: Job, is_wanted: Any) -> Iterator[JobEvent]:
        yield JobEvent(state="measuring", phase="\x1b[2Jon it", fraction=0.5)
        yield JobEvent(state="done", answer=self.answer)

    def engine(self, name: FileName) -> Path:
        path = self.folder / "data"
        path.write_bytes(self.data)
        return path


Liar = tuple[LyingWork, AgentBuilder]


class TestLyingAgents:
    @pytest.fixture(scope="class")
    @classmethod
    def node(cls, agent: AgentProcess) -> NodeDescription:
        with AgentClient(agent.address, None) as client:
            return client.describe()

    @pytest.fixture
    def liar(
        self, node: NodeDescription, tmp_path: Path
    ) -> Iterator[tuple[LyingWork, AgentBuilder]]:
        work: Any = LyingWork(node, tmp_path)
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((AgentService(work).handler(),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        with AgentClient(address, None, "gpu") as client:
            yield work, AgentBuilder(client, "toy-engines", "tensorrt_rtx")
        server.stop(None)

    @staticmethod
    def answer(source: EngineSource, data: bytes = b"engine", **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(source.files[0].read_bytes()).hexdigest()
        key = engine_key(RECIPE, source_digest([digest]), TOY).model_dump()
        sha256 = hashlib.sha256(data).hexdigest()
        return {"key": key, "sha256": sha256, "size_bytes": len(data), **more}

    def test_an_honest_one(self, liar: Liar, tmp_path: Path) -> None:
        work, builder = liar
        source, told = segment(tmp_path), list[str]()
        work.answer = self.answer(source)
        builder.build(
            source, RECIPE, TOY, tmp_path / "out", progress=lambda phase, _: told.append(phase)
        )
        assert (tmp_path / "out").read_bytes() == b"engine"
        assert told == ["[2Jon it", "fetching the engine"]

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"key": None}, "neither what it built nor why"),
            ({"size_bytes": 0}, "neither what it built nor why"),
            ({"size_bytes": 1 << 50}, "less than or equal"),
            ({"size_bytes": 3}, "not the one of 3 bytes"),
            ({"size_bytes": 30}, "not the one of 30 bytes"),
            ({"sha256": "0" * 64}, "not the one of 6 bytes"),
            ({"sha256": "../../etc/passwd"}, "malformed"),
            ({"key": KEY.model_dump()}, "another engine than it was asked for"),
            ({"file": "/etc/passwd"}, "malformed"),
            ({"build_s": float("inf")}, "malformed"),
        ],
    )
    def test_engines_that_are_not_what_was_asked_for(
        self,
        liar: Liar,
        tmp_path: Path,
        change: dict[str, Any],
        sentence: str,
    ) -> None:
        work, builder = liar
        source = segment(tmp_path)
        work.answer = self.answer(source, **change)
        with pytest.raises(TargetError, match=sentence) as caught:
            builder.build(source, RECIPE, TOY, tmp_path / "out")
        assert not isinstance(caught.value, UnbuildableError)
        assert not (tmp_path / "out").exists()

    def test_a_reason_is_one_line(self, liar: Liar, tmp_path: Path) -> None:
        work, builder = liar
        work.answer = {"refused": "no\x1b[2J\nnever " + "x" * 3000}
        with pytest.raises(UnbuildableError) as caught:
            builder.build(segment(tmp_path), RECIPE, TOY, tmp_path / "out")
        assert str(caught.value).isprintable() and len(str(caught.value)) <= 600

    @pytest.mark.parametrize(
        ("gpu", "sentence"),
        [
            ({"flavour": "tensorrt"}, "of another flavour"),
            ({"compute_capability": "8.6"}, "a GPU that nobody asked for"),
            ({"version": "1.0\x1b[2J"}, "has a GPU with the name or version"),
            ({"version": "1" * 65}, "has a GPU with the name or version"),
            ({"compute_capability": "../8.9"}, "no compute capability"),
        ],
    )
    def test_gpus_that_cannot_be(self, liar: Liar, gpu: dict[str, Any], sentence: str) -> None:
        work, builder = liar
        work.answer = {"gpus": [{**TOY.model_dump(), **gpu}], "reason": ""}
        with pytest.raises(TargetError, match=sentence):
            builder.builders(("8.9",))


class TestHostileJobs:
    """What no client in good faith asks for."""

    @pytest.mark.parametrize(
        "name", ["../x", "/etc/passwd", ".hidden", "a/b", "", "a\n", "a" * 300, "\x1b"]
    )
    def test_names_of_files(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            SourceFile(name=name, sha256="0" * 64)

    @pytest.mark.parametrize(
        ("job", "sentence"),
        [
            ({}, "needs files, a recipe and a GPU"),
            ({"recipe": RECIPE, "gpu": TOY}, "needs files, a recipe and a GPU"),
            (
                {"recipe": EngineRecipe(flavour="tensorrt"), "gpu": TOY, "files": "model"},
                "builds no tensorrt engines",
            ),
            ({"recipe": RECIPE, "gpu": TOY, "files": "twice"}, "two files of the segment"),
            ({"recipe": RECIPE, "gpu": TOY, "files": "noise"}, "not an ONNX model"),
            ({"recipe": RECIPE, "gpu": TOY, "files": "reference"}, "was not sent with the model"),
            ({"recipe": RECIPE, "gpu": TOY, "files": "absent"}, "no file with SHA-256"),
        ],
    )
    def test_jobs_that_make_no_sense(
        self, agent: AgentProcess, job: dict[str, Any], sentence: str
    ) -> None:
        model = parsed("g (float[1,8] x) => (float[1,8] y) { y = Relu(x) }", {}).model
        refers = onnx.ModelProto()
        refers.CopyFrom(model)
        weight = refers.graph.initializer.add(
            name="w", data_type=onnx.TensorProto.FLOAT, dims=[1],
            data_location=onnx.TensorProto.EXTERNAL,
        )  # fmt: skip
        weight.external_data.add(key="location", value="../../../etc/passwd")
        data = {
            "model": [model.SerializeToString()], "twice": [model.SerializeToString()] * 2,
            "noise": [b"\xff" * 40], "reference": [refers.SerializeToString()], "absent": [],
        }  # fmt: skip
        sent = data.get(job.get("files", "absent"), [])
        digests = [hashlib.sha256(each).hexdigest() for each in sent]
        if job.get("files") == "absent":
            digests = ["1" * 64]
        files = [SourceFile(name="segment.onnx", sha256=digest) for digest in digests]
        asked = EngineJob.model_validate({**job, "files": files})
        with AgentClient(agent.address, None) as client:
            client.send(dict(zip(digests, sent, strict=False)))
            with pytest.raises(TargetError, match=sentence):
                client.measure(Job(kind="build", backend="toy-engines", engine=asked))
            assert client.describe().measuring == ""

    def test_a_backend_without_engines(self, agent: AgentProcess) -> None:
        with AgentClient(agent.address, None) as client:
            for backend in ("onnxruntime", "nobody's"):
                with pytest.raises(TargetError, match="builds engines here"):
                    client.measure(Job(kind="build", backend=backend))

    def test_only_engines_that_were_built_are_given_out(
        self, agent: AgentProcess, tmp_path: Path
    ) -> None:
        """Not the models that somebody else sent."""
        data = b"a model of somebody else"
        digest = hashlib.sha256(data).hexdigest()
        with AgentClient(agent.address, None) as client:
            client.send({digest: data})
            for name in (digest, "0" * 64):
                with pytest.raises(TargetError, match="no such engine was built here"):
                    client.fetch(name, len(data), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_bodies_refer_to_nothing_either(self) -> None:
        model = parsed("g (float[1,8] x) => (float[1,8] y) { y = Relu(x) }", {}).model
        node = model.graph.node.add(op_type="Constant", output=["c"], name="c")
        tensor = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t
        tensor.external_data.add(key="location", value="weights.data")
        check_references(model.SerializeToString(), ["weights.data"])
        with pytest.raises(RequestError, match="not sent with the model"):
            check_references(model.SerializeToString(), [])
        tensor.external_data.add(key="location", value="/etc/passwd")
        with pytest.raises(RequestError, match="not sent with the model"):
            check_references(model.SerializeToString(), ["weights.data"])
