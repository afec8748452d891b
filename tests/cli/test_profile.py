"""partc profile: what it shows, of measurements and of profiles that were taken elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from partc.targets.here import detect
from partc.targets.registry import load_target
from tests.cli.support import TOPOLOGY, Outcome, partc, small_model, topology

Capture = pytest.CaptureFixture[str]
SHAPE = ("--shape", "x=1,1,64,64")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_model(tmp_path / "m.onnx")


def session_profile(model: Path, threads: int = 1) -> Path:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(model.with_suffix(""))
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    for _ in range(8):
        session.run(None, {"x": np.zeros((1, 1, 64, 64), np.float32)})
    return Path(session.end_profiling())


def sentence(done: Outcome, *parts: str) -> None:
    assert done.code == 2, done
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in parts:
        assert part in done.err


def test_a_measurement_says_how_well_it_is_known(model: Path, capfd: Capture) -> None:
    done = partc(capfd, "profile", model, *SHAPE, "--target", "onnxruntime-cpu",
                 "--repeats", "8", "--no-store", "--json")  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    for block in data["blocks"]:
        assert block["samples"] == 8
        assert block["interval_s"] >= 0
        assert block["provenance"] == "measured"
        assert block["fingerprint"].startswith("onnxruntime")
        assert isinstance(block["settled"], bool)
    assert isinstance(data["settled"], bool)
    assert len(set(data["notices"])) == len(data["notices"])
    text = partc(capfd, "profile", model, *SHAPE, "--target", "onnxruntime-cpu",
                 "--repeats", "3", "--no-store").out  # fmt: skip
    assert "95 %" in text
    assert "--repeats and --budget" in text.replace("\n", " ")


def test_a_profile_of_a_session_is_taken_over(model: Path, capfd: Capture) -> None:
    path = session_profile(model)
    arguments = ("profile", model, *SHAPE, "--target", "onnxruntime-cpu", "--costs-from", path)
    done = partc(capfd, *arguments, "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert sum(b["median_s"] for b in data["blocks"]) == pytest.approx(data["whole_s"])
    assert {b["provenance"] for b in data["blocks"]} == {"imported"}
    assert {b["samples"] for b in data["blocks"]} == {7}
    assert data["segment_fixed_s"] is None
    done = partc(capfd, *arguments)
    assert "imported" in done.out
    assert "Source: ONNX Runtime profile" in done.out


def test_what_belongs_to_no_op_is_shown(model: Path, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "engine.json"
    layers = [{"count": 10}, {"name": "conv + relu", "averageMs": 1.0, "medianMs": 1.0},
              {"name": "[DeviceToHostCopy 4]", "averageMs": 0.5, "medianMs": 0.5}]  # fmt: skip
    path.write_text(json.dumps(layers))
    arguments = ("profile", model, *SHAPE, "--target", "jetson-orin-nano", "--costs-from", path)
    done = partc(capfd, *arguments, "--json")
    assert done.code == 0, done.err
    (nobody,) = json.loads(done.out)["unattributed"]
    assert nobody == {"name": "[DeviceToHostCopy 4]", "seconds": 0.0005}
    text = partc(capfd, *arguments).out
    assert "500 µs of no op: [DeviceToHostCopy 4]" in text


def test_a_profile_that_does_not_fit_is_refused(
    model: Path, tmp_path: Path, capfd: Capture
) -> None:
    path = session_profile(model, threads=2)
    start = ("profile", model, *SHAPE)
    sentence(
        partc(capfd, *start, "--target", "onnxruntime-cpu", "--costs-from", path),
        "taken with 2 threads", "--target onnxruntime-cpu --threads 1",
    )  # fmt: skip
    sentence(
        partc(capfd, *start, "--target", "openvino-cpu", "--costs-from", path, "--threads", "2"),
        "runs openvino",
    )
    hosts = topology(tmp_path / "t.toml", TOPOLOGY.replace("slowdown = 30.0", "threads = 2"))
    done = partc(capfd, *start, "--host", "camera", "-t", hosts, "--costs-from", f"camera={path}",
                 "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["host"] == "camera"
    sentence(
        partc(capfd, *start, "--host", "camera", "-t", hosts, "--costs-from", "sever=x"),
        "no host named 'sever'",
    )
    sentence(
        partc(capfd, *start, "--target", "onnxruntime-cpu", "--costs-from", model),
        "nothing that costs can be read from",
    )


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_model_is_measured_in_a_precision(
    precision: str, model: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTC_COSTS", str(tmp_path / "costs.sqlite"))
    folder = tmp_path / "samples"
    folder.mkdir()
    for number in range(2):
        drawn = np.random.default_rng(number).standard_normal((1, 1, 64, 64))
        np.savez(folder / f"{number}.npz", x=drawn.astype(np.float32))
    arguments = ("profile", model, *SHAPE, "--target", "onnxruntime-cpu", "--repeats", "3")
    given = ("--precision", precision, "--calibration", folder)
    done = partc(capfd, *arguments, *given, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["precision"] == precision
    plain = partc(capfd, *arguments, "--json")
    assert json.loads(plain.out)["precision"] == "fp32"
    assert f"1 thread, in {precision}" in partc(capfd, *arguments, *given).out.replace("\n", " ")
    listed = json.loads(partc(capfd, "costs", "list", "--json").out)["costs"]
    assert {cost["precision"] for cost in listed} == {"fp32", precision}
    chosen = partc(capfd, "costs", "list", "--precision", precision, "--json").out
    assert {cost["precision"] for cost in json.loads(chosen)["costs"]} == {precision}
    assert f"precision {precision}" in partc(capfd, "costs", "list").out
    hosts = topology(tmp_path / "t.toml")
    asked = ("profile", model, *SHAPE, "--host", "camera", "-t", hosts, "--repeats", "3")
    done = partc(capfd, *asked, *given, "--json")
    assert json.loads(done.out)["precision"] == precision


def test_a_precision_that_cannot_be_measured_is_refused(model: Path, capfd: Capture) -> None:
    start = ("profile", model, *SHAPE, "--target", "onnxruntime-cpu", "--no-store")
    assert "'fp8' is not one of" in partc(capfd, *start, "--precision", "fp8").err
    path = session_profile(model)
    sentence(
        partc(capfd, *start, "--precision", "fp16", "--costs-from", path),
        "--precision", "--costs-from",
    )  # fmt: skip
    for precision, parts in (("int8", ("--calibration", "--input")), ("bf16", ("bf16", "engines"))):
        done = partc(capfd, *start, "--precision", precision)
        assert done.code != 0 and len(done.err.strip().splitlines()) == 1, done.err
        for part in parts:
            assert part in done.err


@pytest.mark.parametrize("option", [("--budget", "nan"), ("--budget", "-1"), ("--threads", "9999")])
def test_numbers_that_make_no_sense(option: tuple[str, str], model: Path, capfd: Capture) -> None:
    done = partc(capfd, "profile", model, *SHAPE, "--target", "onnxruntime-cpu", *option)
    assert done.code == 2 and option[0] in done.err


def test_a_profile_with_estimates_says_so(model: Path, tmp_path: Path, capfd: Capture) -> None:
    """What one more segment costs is in no profile, and from a data sheet here."""
    path = tmp_path / "engine.json"
    layers = [{"count": 10}, {"name": "conv + relu", "averageMs": 1.0, "medianMs": 1.0}]
    path.write_text(json.dumps(layers))
    hosts = topology(tmp_path / "t.toml", '[hosts.camera]\ntarget = "jetson-orin-nano"\n')
    compile_ = ("compile", model, *SHAPE, "-t", hosts, "--costs-from", f"camera={path}", "--json")
    done = partc(capfd, *compile_, "-o", tmp_path / "b")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["costs"] == {"camera": ["imported"]}
    assert any("one more segment costs" in notice for notice in data["notices"])
    (tmp_path / "t.toml").write_text('[hosts.camera]\ntarget = "tensorrt"\n')
    if not detect(load_target("tensorrt")).available:  # nor is there any data sheet of it
        done = partc(capfd, *compile_, "-o", tmp_path / "d")
        assert done.code == 0, done.err
        assert any("it is left out" in notice for notice in json.loads(done.out)["notices"])
    done = partc(capfd, *compile_, "-o", tmp_path / "c", "--costs", "measured")
    assert done.code != 0 and "one more segment" in done.err
    assert not (tmp_path / "c").exists()
