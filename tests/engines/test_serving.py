"""`partc serve` as a process, on a host whose engines somebody else's target builds."""

from __future__ import annotations

import json
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from partc.bundle.reader import Bundle
from tests.engines.test_feedback import COMPILE, GRAPH, TOPOLOGY
from tests.support.engine_hosts import camera_and_gpu
from tests.support.nasty_models import parsed
from tests.support.toy_plugin import environment_of, install_toy, output_of

TIMEOUT_S = 120.0
TRUSTING = "--allow-engine-code"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_toy(tmp_path_factory)


def compiled(folder: Path, installed: Path, engine: str = "", **variables: str) -> Path:
    """A bundle; where the builder is killed, it brings no engines."""
    (folder / "model.onnx").write_bytes(parsed(GRAPH, {}).model.SerializeToString())
    camera_and_gpu(folder, "toy-engines")  # writes the target's file
    target = 'target = "toy-engines.toml"'
    (folder / "topology.toml").write_text(TOPOLOGY.replace(target, f"{target}\n{engine}"))
    output_of([installed], *COMPILE, cwd=folder, **variables)
    return folder / "bundle"


@pytest.fixture(scope="module")
def without_engines(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("without"), installed, PARTC_TOY_KILLED="1")


@pytest.fixture(scope="module")
def with_code(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine = "engine = { version_compatible = true }"
    return compiled(tmp_path_factory.mktemp("code"), installed, engine)


class Serving:
    """`partc serve`; its standard error is read as it comes."""

    def __init__(self, bundle: Path, *options: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", "from partc.cli.main import main; main()",
                "serve", str(bundle), "--host", "gpu", *options,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._segments = list(Bundle.open(bundle).manifest.hosts["gpu"].engines)
        assert self._segments
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.said = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, words: str) -> str:
        """All that was said, up to a line with ``words``."""
        while words not in self.said:
            line = self._lines.get(timeout=TIMEOUT_S)
            assert line is not None, f"it ended without {words!r}:\n{self.said}"
            self.said += line
        return self.said

    def platforms(self) -> set[str]:
        """What a client is told of the segments."""
        said = self.until(" serves ")
        address = said.partition(" on 127.0.0.1:")[2].partition(";")[0]
        client = triton.InferenceServerClient(f"127.0.0.1:{address}")
        try:
            return {client.get_model_metadata(each).platform for each in self._segments}
        finally:
            client.close()

    def stop(self) -> int:
        """End it as systemd does; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(TIMEOUT_S)

    def end(self) -> None:
        """End it whatever it does."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def serving(
    bundle: Path, installed: Path, store: Path, *options: str, **variables: str
) -> Iterator[Serving]:
    environment = environment_of([installed], PARTC_ENGINES=str(store), **variables)
    process = Serving(bundle, *options, environment=environment)
    try:
        yield process
    finally:
        process.end()


def engines_in(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.name == "engine"]


def test_building_is_seen_and_the_next_start_takes(
    without_engines: Path, installed: Path, store: Path
) -> None:
    with serving(without_engines, installed, store, PARTC_TOY_BUILD_S="0.3") as server:
        said = server.until(" serves ")
        assert "there is no engine yet; building its engine" in said
        assert ": building\n" in said
        assert ": trying tactics 50%" in said
        assert "its engine was built in " in said
        assert "runs as tensorrt_rtx 1.0.toy engine for compute capability 8.9" in said
        assert all(each.startswith("partc engine: tensorrt_rtx") for each in server.platforms())
        assert server.stop() == 0
    kept = engines_in(store)
    assert kept
    with serving(without_engines, installed, store) as server:
        said = server.until(" serves ")
        assert "runs as tensorrt_rtx 1.0.toy engine" in said
        assert "building" not in said
    assert engines_in(store) == kept


def test_the_quiet_are_told_of_fallbacks_alone(
    without_engines: Path, installed: Path, store: Path
) -> None:
    with serving(without_engines, installed, store, "-q", "--json") as server:
        said = server.until("building its engine")
        assert "serves" not in said
        assert "runs as" not in said


def test_a_build_is_given_up_when_the_server_is_to_stop(
    without_engines: Path, installed: Path, store: Path
) -> None:
    with serving(without_engines, installed, store, PARTC_TOY_BUILD_S="600") as server:
        server.until("trying tactics")
        assert server.stop() == 0
        assert server.until("gpu stopped")
    assert not engines_in(store)
    assert not list(store.rglob(".unfinished-*"))


def test_an_engine_that_crashes_does_not_take_the_server_with_it(
    without_engines: Path, installed: Path, store: Path
) -> None:
    with serving(without_engines, installed, store, PARTC_TOY_CRASHES="1") as server:
        said = server.until(" serves ")
        assert "the engine ended the process in which it was tried (SIGABRT)" in said
        for platform in server.platforms():
            assert platform.startswith("partc onnx: onnxruntime (")
            assert "SIGABRT" in platform
    assert not engines_in(store)


def test_engines_with_code_are_taken_from_a_bundle_only_where_that_is_allowed(
    with_code: Path, installed: Path, store: Path
) -> None:
    variables = {"PARTC_ENGINES": str(store)}
    data = output_of([installed], "inspect", str(with_code), cwd=with_code.parent, **variables)
    assert data["engines_here"]
    for each in data["engines_here"]:
        assert each["action"] == "build"
        assert "carries machine code" in each["reason"]
        assert each["would"].startswith("build its engine: ")
        assert each["gpu"]["compute_capability"] == "8.9"
        assert each["fallback"]["provider"].endswith("ExecutionProvider")
    with serving(with_code, installed, store, TRUSTING) as server:
        said = server.until(" serves ")
        assert "runs as tensorrt_rtx 1.0.toy engine" in said
        assert "building" not in said
    assert not engines_in(store)
    with serving(with_code, installed, store) as server:
        said = server.until(" serves ")
        assert "--allow-engine-code" in said
        assert "runs as tensorrt_rtx 1.0.toy engine" in said
    assert engines_in(store)
    data = output_of([installed], "inspect", str(with_code), cwd=with_code.parent, **variables)
    assert {each["action"] for each in data["engines_here"]} == {"take"}


def test_the_module_that_serves_knows_the_option_too(
    with_code: Path, installed: Path, store: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(with_code, tmp_path / "bundle")
    process = subprocess.Popen(
        [sys.executable, "-m", "partc.runtime.server", str(copy), "--host", "gpu", TRUSTING],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment_of([installed], PARTC_ENGINES=str(store)),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert "runs as tensorrt_rtx 1.0.toy engine" in said
    assert "building" not in said
    assert not engines_in(store)
    assert json.loads((copy / "manifest.json").read_text())["hosts"]["gpu"]["engines"]
