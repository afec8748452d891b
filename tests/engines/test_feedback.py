"""A builder that refuses what its parser took: somebody else's target, as a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from partc.bundle.reader import Bundle
from partc.verification import verify_bundle
from tests.support.engine_hosts import camera_and_gpu
from tests.support.nasty_models import parsed
from tests.support.tiled_bundles import convolutions
from tests.support.toy_plugin import install_toy, output_of, run_partc

TOPOLOGY = """
[hosts.camera]
slowdown = 1000

[hosts.gpu]
target = "toy-engines.toml"

[[links]]
between = ["camera", "gpu"]
bandwidth_mbit_s = 1e6
rtt_ms = 0.0
fixed_ms = 0.0
"""
GRAPH = """g (float[1,64,64] x) => (float[1,64,64] y) {
    a = MatMul(x, x) b = Sin(a) c = MatMul(b, b) d = Cos(c) e = MatMul(d, d) y = Exp(e)
}"""
PIPELINE = "infer-shapes,group-blocks,annotate-costs{repeats=3,pause_ms=0},partition,split,verify"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_toy(tmp_path_factory)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(parsed(GRAPH, {}).model.SerializeToString())
    camera_and_gpu(tmp_path, "toy-engines")  # writes the target's file
    (tmp_path / "topology.toml").write_text(TOPOLOGY)
    return tmp_path


COMPILE = (
    "compile", "model.onnx", "-t", "topology.toml", "-o", "bundle", "--pipeline", PIPELINE,
    "--no-store",
)  # fmt: skip


def kinds_on(found: Any, host: str) -> set[str]:
    return {
        op.rsplit("_", 1)[0]
        for each in found["plan"]["segments"]
        if each["host"] == host
        for op in each["ops"]
    }


def test_all_is_built_where_nothing_is_refused(installed: Path, work: Path) -> None:
    found = output_of([installed], *COMPILE, cwd=work)
    assert kinds_on(found, "camera") == set()
    (entry,) = Bundle.open(work / "bundle").manifest.hosts["gpu"].engines.values()
    assert (entry.state, len(entry.built)) == ("built", 1)


@pytest.mark.parametrize("named", [{}, {"PARTC_TOY_NAMES": "1"}])
def test_what_the_builder_refuses_goes_elsewhere(
    installed: Path, work: Path, named: dict[str, str]
) -> None:
    found = output_of([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES="Cos", **named)
    assert kinds_on(found, "camera") == {"Cos"}
    (said,) = [notice for notice in found["notices"] if "as its builder found" in notice]
    assert said.startswith("host 'gpu' cannot run 1 op ('Cos_3': the toy's builder has no tactic")
    assert "solved again (round 1)" in said
    manifest = Bundle.open(work / "bundle").manifest
    (refused,) = manifest.hosts["gpu"].refused
    assert (refused.op, refused.found_by) == ("Cos_3", "builder")
    assert all(entry.built for entry in manifest.hosts["gpu"].engines.values())
    costs = {block.ops[0]: set(block.costs) for block in manifest.blocks}
    assert costs["Cos_3"] == {"camera"}
    verify_bundle(work / "bundle")


def test_several_are_found_at_once(installed: Path, work: Path) -> None:
    found = output_of([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES="Cos,Exp")
    assert kinds_on(found, "camera") == {"Cos", "Exp"}
    assert len([n for n in found["notices"] if "as its builder found" in n]) == 1


def test_an_op_that_is_refused_beside_others_alone(installed: Path, work: Path) -> None:
    found = output_of([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES_BESIDE="Cos")
    assert kinds_on(found, "camera") == {"Cos"}


def test_where_all_is_refused_the_other_host_does_all(installed: Path, work: Path) -> None:
    everything = "MatMul,Sin,Cos,Exp"
    found = output_of([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES=everything)
    assert kinds_on(found, "gpu") == set()
    assert not Bundle.open(work / "bundle").manifest.hosts["gpu"].engines


def test_where_nothing_is_left_there_is_one_sentence(installed: Path, work: Path) -> None:
    (work / "topology.toml").write_text('[hosts.gpu]\ntarget = "toy-engines.toml"\n')
    done = run_partc([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES="Cos")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "op 'Cos_3' runs on no host of this topology: 'gpu' cannot build it" in said
    assert "the toy's builder has no tactic" in said
    assert "Traceback" not in said
    assert not (work / "bundle").exists()


def test_an_op_that_is_pinned_to_it(installed: Path, work: Path) -> None:
    (work / "topology.toml").write_text(TOPOLOGY + '[constraints]\npin = { gpu = ["Cos_*"] }\n')
    done = run_partc([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES="Cos")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "host 'gpu' cannot run 1 op ('Cos_3'" in said
    assert "and without that there is no plan: " in said


def test_the_answers_are_right(installed: Path, work: Path) -> None:
    output_of([installed], *COMPILE, cwd=work, PARTC_TOY_REFUSES="Cos")
    given = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32) * 0.01
    np.savez(work / "x.npz", x=given)
    run = ("run", "bundle", "--local", "--input", "x.npz", "--output", "y.npz")
    output_of([installed], *run, cwd=work)
    e = np.cos(np.sin(given @ given) @ np.sin(given @ given))
    np.testing.assert_allclose(np.load(work / "y.npz")["y"], np.exp(e @ e), rtol=1e-3)


def test_a_build_that_is_killed_leaves_the_engine_to_the_host(installed: Path, work: Path) -> None:
    """It says nothing of the ops: they stay where they are best."""
    found = output_of([installed], *COMPILE, cwd=work, PARTC_TOY_KILLED="1")
    assert kinds_on(found, "camera") == set()
    (entry,) = Bundle.open(work / "bundle").manifest.hosts["gpu"].engines.values()
    assert (entry.state, entry.built) == ("build_on_target", [])
    assert "the toy's builder was killed" in entry.reason
    said = [notice for notice in found["notices"] if "has to build the engines of s0" in notice]
    assert len(said) == 1


TILED_PIPELINE = PIPELINE.replace("split,", "plan-tiles,tile,split,")
_LINK = """
[[links]]
between = ["{0}", "{1}"]
bandwidth_mbit_s = 1e5
rtt_ms = 0.0
fixed_ms = 0.0
"""
_PAIRS = (("camera", "left"), ("camera", "right"), ("left", "right"))
TILED_TOPOLOGY = (
    "[hosts.camera]\nslowdown = 1000\n"
    + "".join(f'[hosts.{name}]\ntarget = "toy-engines.toml"\n' for name in ("left", "right"))
    + "".join(
        _LINK.format(*p) for p in (("camera", "left"), ("camera", "right"), ("left", "right"))
    )
    + '[tiles]\nuse = "always"\n'
)


def with_tanh() -> onnx.ModelProto:
    """Convolutions, with an op in their middle that some builders refuse."""
    model = convolutions(4, side=96)
    nodes = list(model.graph.node)
    nodes[2].input[0] = "u1"
    nodes.insert(2, onnx.helper.make_node("Tanh", ["t1"], ["u1"], "tanh"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_a_tile_that_is_refused_is_the_op_that_it_is_a_tile_of(installed: Path, work: Path) -> None:
    """The builder refuses ``tanh@left``; it is ``tanh`` that is kept off the host."""
    onnx.save(with_tanh(), work / "model.onnx")
    (work / "topology.toml").write_text(TILED_TOPOLOGY)
    command = [TILED_PIPELINE if each == PIPELINE else each for each in COMPILE]
    before = output_of([installed], *command, cwd=work)
    tiles = {op for each in before["plan"]["segments"] for op in each["ops"]}
    assert {"tanh@left", "tanh@right"} <= tiles
    command[command.index("bundle")] = "again"
    found = output_of([installed], *command, cwd=work, PARTC_TOY_REFUSES="Tanh")
    hosts = {op: each["host"] for each in found["plan"]["segments"] for op in each["ops"]}
    assert hosts["tanh"] == "camera"
    manifest = Bundle.open(work / "again").manifest
    refused = {name: [each.op for each in host.refused] for name, host in manifest.hosts.items()}
    assert refused["camera"] == []
    assert "tanh" in refused["left"] + refused["right"]
    assert all(op == "tanh" for ops in refused.values() for op in ops)
    verify_bundle(work / "again")
