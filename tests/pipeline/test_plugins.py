"""A third party's pass and target, installed as a package and found by their entry points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import partc
from tests.support.nasty_models import parsed
from tests.support.toy_plugin import install_toy, output_of, run_partc

TOPOLOGY = """
[hosts.camera]
target = "onnxruntime-cpu"
slowdown = 8

[hosts.server]
target = "toy.toml"

[[links]]
between = ["camera", "server"]
bandwidth_mbit_s = 100000
rtt_ms = 0.01
fixed_ms = 0.0
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_toy(tmp_path_factory)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    graph = """g (float[1,8] x) => (float[1,8] y) {
        a = Relu(x) b = Sigmoid(a) c = Neg(b) d = Relu(c) y = Exp(d)
    }"""
    (tmp_path / "model.onnx").write_bytes(parsed(graph, {}).model.SerializeToString())
    (tmp_path / "toy.toml").write_text('backend = "toy"\noptimization = "none at all"\n')
    (tmp_path / "topology.toml").write_text(TOPOLOGY)
    return tmp_path


def test_the_pass_is_listed_and_a_broken_one_disturbs_nobody(installed: Path, work: Path) -> None:
    listed = output_of([installed], "passes", cwd=work)["passes"]
    assert listed["count-ops"]["summary"] == "Adds a notice with the number of ops."
    assert "fold-constants" in listed
    assert "needs-missing-package" not in listed


def test_the_pass_and_the_target_compile_a_model(installed: Path, work: Path) -> None:
    pipeline = (
        "count-ops{op-type=Relu},infer-shapes,group-blocks,"
        "annotate-costs{repeats=3,pause_ms=0},partition,split,verify"
    )
    compiled = output_of(
        [installed],
        *("compile", "model.onnx", "-t", "topology.toml", "-o", "bundle", "--pipeline", pipeline),
        cwd=work,
    )
    assert "2 ops of type Relu" in compiled["notices"]
    assert compiled["pipeline"].startswith("count-ops{op_type=Relu},infer-shapes")
    manifest = partc.Bundle.open(work / "bundle").manifest
    assert manifest.hosts["server"].backend == "toy"
    costs = {tuple(block.ops): set(block.costs) for block in manifest.blocks}
    assert {ops: hosts for ops, hosts in costs.items() if "Sigmoid_1" in ops} == {
        ops: {"camera"} for ops in costs if "Sigmoid_1" in ops
    }
    assert any("server" in hosts for hosts in costs.values())


def test_the_target_is_shown_measured_and_run(installed: Path, work: Path) -> None:
    shown = output_of([installed], "targets", "toy.toml", cwd=work)
    assert "toy" in shown["backends"]
    (row,) = shown["targets"]
    assert (row["backend"], row["costs"], row["available"]) == ("toy", "measured", True)
    known = parsed("g (float[1,8] x) => (float[1,8] y) {a = Relu(x) y = Exp(a)}", {}).model
    (work / "known.onnx").write_bytes(known.SerializeToString())
    profile = output_of(
        [installed], "profile", "known.onnx", "--target", "toy.toml", "--no-store", cwd=work
    )
    assert {block["provenance"] for block in profile["blocks"]} == {"measured"}
    pipeline = (
        "infer-shapes,group-blocks,annotate-costs{repeats=3,pause_ms=0},partition,split,verify"
    )
    given = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)
    np.savez(work / "x.npz", x=given)
    options = ("-t", "topology.toml", "-o", "bundle", "--pipeline", pipeline)
    pinned = '\n[constraints]\npin = { server = ["Neg_*"] }\n'
    (work / "topology.toml").write_text(TOPOLOGY + pinned)
    output_of([installed], "compile", "model.onnx", *options, cwd=work)
    arguments = ("bundle", "--local", "--input", "x.npz", "--output", "y.npz")
    output_of([installed], "run", *arguments, cwd=work)
    relu = np.maximum(given, 0)
    expected = np.exp(np.maximum(-1 / (1 + np.exp(-relu)), 0))
    np.testing.assert_allclose(np.load(work / "y.npz")["y"], expected, rtol=1e-5)
    assert output_of([installed], "verify", "bundle", cwd=work)["verified"]["max_abs_error"] < 1e-5


def test_a_provider_of_the_target_is_its_own_affair(installed: Path, work: Path) -> None:
    (work / "toy.toml").write_text('backend = "toy"\nprovider = "slow"\n')
    (row,) = output_of([installed], "targets", "toy.toml", cwd=work)["targets"]
    assert row["fingerprint"].startswith("toy-slow-")
    (work / "toy.toml").write_text('backend = "toy"\nprovider = "fast"\n')
    done = run_partc([installed], "targets", "toy.toml", cwd=work)
    assert done.returncode == 1
    assert "the toy has no provider 'fast', only 'slow'" in done.stderr


def test_a_missing_package_is_told_to_who_asks_for_it(installed: Path, work: Path) -> None:
    done = run_partc(
        [installed],
        *("compile", "model.onnx", "-t", "topology.toml", "-o", "bundle"),
        *("--pipeline", "needs-missing-package"),
        cwd=work,
    )
    assert done.returncode == 2
    assert "cannot be imported: No module named 'package_that_nobody_has'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_two_packages_register_is_refused(
    installed: Path, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    info = other / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[partc.passes]\ncount-ops = rival:Other\n")
    done = run_partc([installed, other], "passes", cwd=work)
    assert done.returncode == 2
    assert "pass 'count-ops' is registered twice" in done.stderr
    assert "uninstall one of them" in done.stderr
