"""Compiling while an agent is down: what the store has of its node is enough, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from partc.agent.meter import AgentMeter, agent_meters
from partc.agent.remembered import Remembered
from partc.errors import TargetError
from partc.targets.absent import AbsentMeter
from partc.targets.protocol import Detection, RunSettings
from tests.agent.support import AgentProcess
from tests.cli.support import partc, small_model

Capture = pytest.CaptureFixture[str]

TOPOLOGY = """
[hosts.camera]
agent = "{address}"
slowdown = 2000.0
threads = {threads}

[hosts.server]

[[links]]
between = ["camera", "server"]
bandwidth_mbit_s = 1000
fixed_ms = 0.3

[constraints]
private_blocks = 1
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_model(tmp_path / "m.onnx")


def written(path: Path, address: str, threads: int = 1) -> Path:
    path.write_text(TOPOLOGY.format(address=address, threads=threads))
    return path


def test_stored_costs_stand_for_an_agent_that_is_down(
    model: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTC_COSTS", str(tmp_path / "costs.sqlite"))
    with AgentProcess(tmp_path / "state") as agent:
        topology = written(tmp_path / "t.toml", agent.address)
        command = ("compile", model, "-t", topology, "--costs", "measured", "--json")
        done = partc(capfd, *command, "-o", tmp_path / "first", "--refine-budget", "0")
        assert done.code == 0, done.err
        assert not any("cannot be reached" in said for said in json.loads(done.out)["notices"])
    done = partc(capfd, *command, "-o", tmp_path / "second", "--refine-budget", "2")
    assert done.code == 0, done.err
    notices = json.loads(done.out)["notices"]
    used = f"the agent at {agent.address} cannot be reached; costs that were measured there on 20"
    assert len([said for said in notices if said.startswith(used)]) == 1, notices
    skipped = "segments of host 'camera' were not measured: the agent at"
    assert any(said.startswith(skipped) for said in notices), notices

    written(topology, agent.address, threads=2)
    done = partc(capfd, *command, "-o", tmp_path / "third")
    assert done.code == 1 and done.err.count("\n") == 1, done.err
    assert "cannot be reached" in done.err and "of 1 thread" in done.err
    assert "partc agent --listen" in done.err
    assert not (tmp_path / "third").exists()

    written(topology, agent.address)
    done = partc(capfd, *command, "-o", tmp_path / "fourth", "--no-store")
    assert done.code == 1 and "the store has not all costs" in done.err, done.err

    done = partc(capfd, "profile", model, "--host", "camera", "-t", topology)
    assert done.code == 1 and "host 'camera' at" in done.err and "cannot be reached" in done.err


def test_what_a_node_said_of_a_model_is_remembered(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backend may not be here, or fuse otherwise."""
    from partc import Topology

    known = tmp_path / "agents.json"
    loaded = onnx.load(model)
    with AgentProcess(tmp_path / "state") as agent:
        topology = Topology.parse({"hosts": {"camera": {"agent": agent.address}}})
        meter = agent_meters(topology, None, known=known)["camera"]
        assert isinstance(meter, AgentMeter)
        groups = meter.fused_groups(loaded, RunSettings())
        assert meter.unsupported(loaded) == {} and groups
        fingerprint = meter.detect().fingerprint
        meter.close()
    absent = agent_meters(topology, None, known=known, absent_will_do=True)["camera"]
    assert isinstance(absent, AbsentMeter)
    assert absent.detect() == Detection(False, absent.reason, "", fingerprint)
    assert absent.where == f"the node of the agent at {agent.address}"
    monkeypatch.setattr("partc.targets.absent.load_backend", None)
    assert absent.fused_groups(loaded, RunSettings()) == groups
    assert absent.unsupported(loaded) == {}
    monkeypatch.undo()
    for file in (tmp_path / "agents").glob("*.json"):
        file.write_text('{"value": [["nobody", "knows"]]}')
    assert absent.fused_groups(loaded, RunSettings()) == groups, "the same backend is here"
    with pytest.raises(TargetError, match="cannot be reached"):
        agent_meters(topology, None, known=known)
    known.unlink()
    with pytest.raises(TargetError, match=r"host 'camera' at .* cannot be reached"):
        agent_meters(topology, None, known=known, absent_will_do=True)


def test_only_so_many_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partc.agent.remembered._MOST_ANSWERS", 3)
    remembered = Remembered(tmp_path / "agents.json")
    for number in range(5):
        remembered.keep((str(number),), {"value": number})
    assert len(list((tmp_path / "agents").iterdir())) == 3
    assert remembered.answer(("4",)) == {"value": 4}
