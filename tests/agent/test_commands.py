"""From the command line: three nodes on one machine, known to each other by their credentials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from partc.agent.wire.client import AgentClient
from partc.runtime.credentials import Credentials
from tests.agent.support import AgentProcess
from tests.cli.support import partc, small_model

Capture = pytest.CaptureFixture[str]

HOST = """
[hosts.{name}]
agent = "{agent}"
slowdown = {slowdown}
"""
LINK = """
[[links]]
between = ["{one}", "{other}"]
bandwidth_mbit_s = 200
rtt_ms = 1
fixed_ms = 0.3
"""


@dataclass(frozen=True)
class Nodes:
    """Three agents, and the folder of who calls them."""

    camera: AgentProcess
    gateway: AgentProcess
    server: AgentProcess
    credentials: Path

    def topology(self, path: Path) -> Path:
        """A chain of the three."""
        text = "".join(
            HOST.format(name=name, agent=getattr(self, name).address, slowdown=slowdown)
            for name, slowdown in (("camera", 30.0), ("gateway", 8.0), ("server", 1.0))
        )
        text += LINK.format(one="camera", other="gateway")
        text += LINK.format(one="gateway", other="server")
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    own = folder / "laptop"
    made = [["--credentials", str(own)]] + [
        ["--credentials", str(folder / name), "--authority", str(own), "--name", name]
        for name in ("camera", "gateway", "server")
    ]
    for options in made:
        subprocess.run(
            [sys.executable, "-m", "partc.cli", "agent", "--init", *options], check=True,
            capture_output=True, timeout=120,
        )  # fmt: skip
    agents = [
        AgentProcess(folder / f"{name}-state", "--credentials", str(folder / name))
        for name in ("camera", "gateway", "server")
    ]
    try:
        yield Nodes(agents[0], agents[1], agents[2], own)
    finally:
        for agent in agents:
            agent.__exit__(None, None, None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_model(tmp_path / "m.onnx")


def test_the_main_job_on_three_nodes(
    nodes: Nodes, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    topology = nodes.topology(tmp_path / "t.toml")
    bundle = tmp_path / "b"
    known = ("--credentials", nodes.credentials)
    done = partc(
        capfd, "profile", model, "--host", "gateway", "-t", topology, "--json", "--no-store", *known
    )
    assert done.code == 0, done.err
    profile = json.loads(done.out)
    assert profile["host"] == "gateway" and profile["blocks"]
    done = partc(
        capfd, "compile", model, "-t", topology, "-o", bundle, "--refine-budget", "2", "--json",
        "--costs", "measured", *known,
    )  # fmt: skip
    assert done.code == 0, done.err
    hosts = {segment["host"] for segment in json.loads(done.out)["plan"]["segments"]}
    assert hosts - {"camera"}, "nothing was placed on another node"
    done = partc(capfd, "run", bundle, "--json", *known)
    assert json.loads(done.out)["finished_locally"]
    done = partc(capfd, "deploy", bundle, "--json", *known)
    assert done.code == 0, done.err
    assert [each["host"] for each in json.loads(done.out)["hosts"]] == [
        "camera", "gateway", "server",
    ]  # fmt: skip
    done = partc(capfd, "run", bundle, "--json", *known)
    assert done.code == 0, done.err
    ran = json.loads(done.out)
    assert not ran["finished_locally"], ran["failures"]
    assert ran["difference"] is not None
    assert {segment["host"] for segment in ran["segments"]} == hosts
    done = partc(capfd, "deploy", bundle, *known)
    assert done.code == 0 and done.err.count("served it already") == 3


def test_the_second_time_costs_are_in_the_store(
    nodes: Nodes, model: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTC_COSTS", str(tmp_path / "costs.sqlite"))
    topology = nodes.topology(tmp_path / "t.toml")
    arguments = ("profile", model, "--host", "server", "-t", topology, "--json",
                 "--credentials", nodes.credentials)  # fmt: skip
    first, second = (json.loads(partc(capfd, *arguments).out) for _ in range(2))
    assert "measured" in first["notices"][-1] and nodes.server.address in first["notices"][-1]
    assert "found in the store" in second["notices"][-1]
    assert [b["median_s"] for b in first["blocks"]] == [b["median_s"] for b in second["blocks"]]


def test_without_credentials_there_is_one_sentence(
    nodes: Nodes, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    topology = nodes.topology(tmp_path / "t.toml")
    for command in (
        ("profile", model, "--host", "camera", "-t", topology),
        ("compile", model, "-t", topology, "-o", tmp_path / "b"),
        ("link", "camera", "-t", topology),
    ):
        done = partc(capfd, *command)
        assert done.code == 1
        assert done.err.count("\n") == 1 and "asks for credentials" in done.err, done.err
    assert not (tmp_path / "b").exists()


def test_a_node_is_described_to_people(nodes: Nodes, capfd: Capture) -> None:
    known = ("--credentials", nodes.credentials)
    done = partc(capfd, "agent", "--ask", nodes.camera.address, *known)
    assert done.code == 0, done.err
    for part in ("processor", "cores", "memory", "backend     onnxruntime", "not tensorrt"):
        assert part in done.out
    done = partc(capfd, "agent", "--ask", nodes.camera.address, "--json", *known)
    assert json.loads(done.out)["processor"]["cores"] == os.cpu_count()
    for wrong, code, part in (("127.0.0.1:9", 1, "cannot be reached"), ("x", 2, "HOST:PORT")):
        done = partc(capfd, "agent", "--ask", wrong, *known)
        assert done.code == code and part in done.err and done.err.count("\n") == 1


def test_a_bundle_is_opened_with_a_folder_of_credentials(
    nodes: Nodes, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    import partc as library

    bundle, topology = tmp_path / "b", nodes.topology(tmp_path / "t.toml")
    library.compile(
        model,
        library.Topology.load(topology),
        output=bundle,
        use_store=False,
        refine_budget_s=0.0,
        credentials=nodes.credentials,
    )
    assert partc(capfd, "deploy", bundle, "--credentials", nodes.credentials).code == 0
    with library.open_bundle(bundle, credentials=str(nodes.credentials)) as device:
        feeds, golden = device.bundle.golden()
        answer = device.request(feeds)
    assert answer.failures == ()
    for name, value in golden.items():
        np.testing.assert_allclose(answer.outputs[name], value, rtol=1e-4, atol=1e-5)


def test_a_node_that_is_down(nodes: Nodes, model: Path, tmp_path: Path, capfd: Capture) -> None:
    text = nodes.topology(tmp_path / "t.toml").read_text()
    text = text.replace(nodes.server.address, "127.0.0.1:9")
    (tmp_path / "t.toml").write_text(text)
    done = partc(
        capfd, "compile", model, "-t", tmp_path / "t.toml", "-o", tmp_path / "b",
        "--credentials", nodes.credentials,
    )  # fmt: skip
    assert done.code == 1 and done.err.count("\n") == 1
    assert "host 'server' at 127.0.0.1:9 cannot be reached" in done.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("profile", "m.onnx"), "--target NAME"),
        (("profile", "m.onnx", "--host", "camera"), "needs --topology"),
        (("profile", "m.onnx", "--host", "camera", "--target", "x"), "leave --target out"),
        (("profile", "m.onnx", "--target", "x", "-t", "t.toml"), "goes with --host"),
        (("profile", "m.onnx", "--host", "camra", "-t", "t.toml"), "Did you mean 'camera'"),
        (("link", "camra", "-t", "t.toml"), "Did you mean 'camera'"),
        (("link", "camera", "-t", "t.toml"), "has no agent"),
        (("agent", "--name", "x"), "go with --init"),
        (("agent", "--listen", "0.0.0.0:0", "--credentials", "none"), "without credentials"),
        (("agent", "--listen", "here"), "HOST:PORT"),
        (("agent", "--credentials", "nowhere"), "does not exist"),
        (("run", "b", "--input", "x.npz", "--address", "server=nowhere"), "HOST:PORT"),
        (("serve", "b", "--host", "server", "--listen", "a:b:1"), "brackets"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: tuple[str, ...], part: str, tmp_path: Path, capfd: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from tests.runtime import plans
    from tests.runtime.handmade import write_bundle

    monkeypatch.chdir(tmp_path)
    small_model(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=plans.sample()["x"])
    (tmp_path / "t.toml").write_text("[hosts.camera]\n")
    write_bundle(tmp_path / "b", plans.two_hosts())
    done = partc(capfd, *arguments)
    assert done.code == 2, done.err
    assert part in done.err and done.err.count("\n") == 1


def test_credentials_are_explained(tmp_path: Path, capfd: Capture) -> None:
    done = partc(capfd, "agent", "--init", "--credentials", tmp_path / "c", "--name", "a.lan")
    assert done.code == 0
    for part in ("a.lan", "server.pem", "client.pem", "ca.key", "--authority"):
        assert part in done.err
    done = partc(capfd, "agent", "--init", "--credentials", tmp_path / "c")
    assert done.code == 2 and "--force" in done.err


def test_ctrl_c_ends_the_measurement_on_the_node_too(nodes: Nodes, tmp_path: Path) -> None:
    model, topology = small_model(tmp_path / "m.onnx"), nodes.topology(tmp_path / "t.toml")
    process = subprocess.Popen(
        [sys.executable, "-m", "partc.cli", "profile", model, "--host", "camera", "-t", topology,
         "--no-store", "--credentials", nodes.credentials],
        stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    with AgentClient(nodes.camera.address, Credentials.load(nodes.credentials)) as client:
        end_s = time.monotonic() + 90
        while "profiling" not in client.describe().measuring:
            assert time.monotonic() < end_s and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
        while client.describe().measuring:
            assert time.monotonic() < end_s
            time.sleep(0.05)


def test_what_was_measured_before_a_node_died_is_kept(
    nodes: Nodes, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes with different settings; the second dies while it is measured."""
    monkeypatch.setenv("PARTC_COSTS", str(tmp_path / "costs.sqlite"))
    model, topology = small_model(tmp_path / "m.onnx"), tmp_path / "t.toml"
    own = str(nodes.credentials.parent / "server")
    with AgentProcess(tmp_path / "state", "--credentials", own) as fragile:
        text = HOST.format(name="camera", agent=nodes.camera.address, slowdown=1.0)
        text += HOST.format(name="server", agent=fragile.address, slowdown=1.0)
        topology.write_text(text + "threads = 2\n" + LINK.format(one="camera", other="server"))
        process = subprocess.Popen(
            [sys.executable, "-m", "partc.cli", "compile", model, "-t", topology, "-o",
             tmp_path / "b", "--credentials", nodes.credentials],
            stderr=subprocess.PIPE, text=True, env={**os.environ},
        )  # fmt: skip
        with AgentClient(fragile.address, Credentials.load(nodes.credentials)) as client:
            end_s = time.monotonic() + 90
            while "profiling" not in client.describe().measuring:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < end_s
                time.sleep(0.01)
        fragile.send(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "host 'server'" in err and "ended while it measured" in err
    assert len([line for line in err.splitlines() if line.strip()]) == 1, err
    assert not (tmp_path / "b").exists()
    done = partc(
        capfd, "profile", model, "--host", "camera", "-t", topology, "--json",
        "--credentials", nodes.credentials,
    )  # fmt: skip
    assert "found in the store" in json.loads(done.out)["notices"][-1]
