"""Compile, inspect, verify and run from the command line, with JSON and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.support import partc, small_model, topology

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    small_model(path / "m.onnx")
    topology(path / "t.toml")
    from partc.cli.main import run

    code = run(
        ["compile", str(path / "m.onnx"), "-t", str(path / "t.toml"), "-o", str(path / "bundle"),
         "-q", "--pin", "camera=conv", "--pin", "server=fc"]
    )  # fmt: skip
    assert code == 0
    return path


def test_json_has_what_is_promised_and_nothing_else_is_on_standard_output(
    tmp_path: Path, capfd: Capture
) -> None:
    model, hosts = small_model(tmp_path / "m.onnx"), topology(tmp_path / "t.toml")
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert {
        "objective", "predicted_s", "bound_s", "gap", "status", "solver", "solve_s",
        "strategies", "verdict", "plan", "verified", "bundle",
    } <= set(data)  # fmt: skip
    assert [s["name"] for s in data["strategies"]][:2] == ["device-only", "edge-only"]
    assert data["strategies"][-1]["name"] == "optimal"
    assert {"name", "predicted_s", "bytes_sent"} <= set(data["strategies"][0])
    assert {"split", "break_even_mbit_s"} <= set(data["verdict"])
    for segment in data["plan"]["segments"]:
        assert {"id", "host", "ops", "inputs", "outputs", "predicted_s"} <= set(segment)
    for transfer in data["plan"]["transfers"]:
        assert {"tensor", "from", "to", "bytes", "codec", "predicted_s"} <= set(transfer)
    assert {"max_abs_error", "max_rel_error"} <= set(data["verified"])
    assert data["status"] == "optimal"
    assert data["gap"] == 0.0
    assert Path(data["bundle"]).is_dir()


def test_run_local_writes_the_outputs(folder: Path, capfd: Capture) -> None:
    x = np.random.default_rng(1).standard_normal((3, 1, 64, 64)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    done = partc(
        capfd, "run", folder / "bundle", "--local", "--input", folder / "x.npz",
        "--output", folder / "y.npz", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["outputs"]["y"] == {"dtype": "float32", "shape": [3, 4]}
    assert not data["finished_locally"]
    assert {s["host"] for s in data["segments"]} == {"camera", "server"}
    from tests.support.oracle import assert_same, run_whole

    with np.load(folder / "y.npz") as written:
        assert_same({"y": written["y"]}, run_whole(folder / "m.onnx", {"x": x}))


def test_run_without_servers_is_finished_on_the_device_and_says_so(
    folder: Path, capfd: Capture
) -> None:
    done = partc(capfd, "run", folder / "bundle", "--address", "server=127.0.0.1:1", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["finished_locally"]
    assert "server" in data["failures"][0]
    assert data["difference"] < 1e-5


def test_verify_and_inspect(folder: Path, capfd: Capture) -> None:
    done = partc(capfd, "verify", folder / "bundle", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["verified"]["max_abs_error"] < 1e-5
    done = partc(capfd, "inspect", folder / "bundle", "--json")
    assert json.loads(done.out)["plan"]["root"] == "camera"
    done = partc(capfd, "inspect", folder / "bundle")
    assert "camera" in done.out


def test_passes_targets_and_completion(capfd: Capture) -> None:
    assert "partition" in json.loads(partc(capfd, "passes", "--json").out)["passes"]
    assert "requires" in partc(capfd, "passes", "partition").out
    names = [row["name"] for row in json.loads(partc(capfd, "targets", "--json").out)["targets"]]
    assert "onnxruntime-cpu" in names
    for shell in ("bash", "zsh", "fish"):
        assert "_PARTC_COMPLETE" in partc(capfd, "completion", shell).out


def test_profile_measures_once_and_then_finds_it(folder: Path, capfd: Capture) -> None:
    command = ("profile", folder / "m.onnx", "--target", "onnxruntime-cpu", "--json")
    assert partc(capfd, *command).code == 0
    data = json.loads(partc(capfd, *command).out)
    blocks_s = sum(block["median_s"] for block in data["blocks"])
    assert 0 < blocks_s <= data["whole_s"]
    assert any("store" in notice for notice in data["notices"])


def test_solve_needs_no_onnx(folder: Path, capfd: Capture) -> None:
    done = partc(capfd, "solve", folder / "bundle" / "problem.json", "--json")
    data = json.loads(done.out)
    assert {"objective", "bound", "gap", "status", "placement", "transfers", "loads",
            "solver", "solve_s"} <= set(data)  # fmt: skip
    assert data["status"] == "optimal"


def test_dump_and_time(tmp_path: Path, capfd: Capture) -> None:
    model, hosts = small_model(tmp_path / "m.onnx"), topology(tmp_path / "t.toml")
    done = partc(
        capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", "--time-passes", "-v",
        "--dump-after", "all", tmp_path / "dump",
    )  # fmt: skip
    assert done.code == 0, done.err
    dumped = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert dumped[0] == "00-infer-shapes.txt"
    assert "all passes" in done.err
    assert done.out == ""


def test_quiet_says_nothing(tmp_path: Path, capfd: Capture) -> None:
    model, hosts = small_model(tmp_path / "m.onnx"), topology(tmp_path / "t.toml")
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
