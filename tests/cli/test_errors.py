"""Bad input ends in one sentence, the right exit code and no traceback; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.support import TOPOLOGY, partc, small_model, topology

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_model(tmp_path / "m.onnx")


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    return topology(tmp_path / "t.toml")


def assert_sentence(text: str, *parts: str) -> None:
    assert "Traceback" not in text
    lines = [line for line in text.strip().splitlines() if line]
    assert len(lines) == 1, text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("does not exist",)),
        (b"", ("is empty",)),
        (b"hello", ("not an ONNX",)),
        ("truncated", ("truncated",)),
    ],
)
def test_a_file_that_is_no_model(
    content: bytes | str | None,
    parts: tuple[str, ...],
    model: Path,
    hosts: Path,
    tmp_path: Path,
    capfd: Capture,
) -> None:
    if content is None:
        model.unlink()
    else:
        whole = model.read_bytes()
        model.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b")
    assert done.code == 1
    assert_sentence(done.err, *parts)
    assert {path.name for path in tmp_path.iterdir()} <= {"m.onnx", "t.toml"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("[hosts.camera]", "[hosts.camera]\nslowdwn = 2"), "Did you mean 'slowdown'"),
        (('between = ["camera", "server"]', 'between = ["camera", "sever"]'), "'server'"),
        (("bandwidth_mbit_s = 50", "bandwidth_mbit_s = -1"), "greater than"),
        (("bandwidth_mbit_s = 50", "bandwidth_mbit_s = nan"), "bandwidth_mbit_s"),
        (("[hosts.server]", "[hosts.other]\n[hosts.server]"), "no link joins"),
        (("slowdown = 30.0", "slowdown = 0.5"), "slowdown"),
        (("slowdown = 30.0", "threads = 0"), "threads"),
        (("[[links]]", "[[links]"), "not valid TOML"),
    ],
)
def test_a_topology_that_is_wrong(
    change: tuple[str, str], part: str, model: Path, tmp_path: Path, capfd: Capture
) -> None:
    assert change[0] in TOPOLOGY
    hosts = topology(tmp_path / "t.toml", TOPOLOGY.replace(*change))
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b")
    assert done.code == 1
    assert_sentence(done.err, part, "t.toml")


def test_an_output_that_exists_is_never_overwritten(
    model: Path, hosts: Path, tmp_path: Path, capfd: Capture
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b")
    assert done.code == 1
    assert_sentence(done.err, "exists", "--force")
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", "--force")
    assert done.code == 1
    assert_sentence(done.err, "not a bundle")
    assert (tmp_path / "b" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--shape", "y=1"], "no model input named 'y'"),
        (["--shape", "x"], "NAME=1,3,224,224"),
        (["--shape", "x=1,1,64,65"], "65"),
        (["--pipeline", "infer-shapes,,split"], "cannot be read"),
        (["--pipeline", "partitoin"], "Did you mean 'partition'"),
        (["--pipeline", "partition{gpa=0.1}"], "Did you mean 'gap'"),
        (["--dump-after", "splitt", "d"], "Did you mean 'split'"),
        (["--pin", "camera"], "HOST=VALUE"),
        (["--memory", "camera=lots"], "not a number"),
        (["--memory", "camra=1"], "Did you mean 'camera'"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], part: str, model: Path, hosts: Path, tmp_path: Path, capfd: Capture
) -> None:
    done = partc(capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", *arguments)
    assert done.code == 2
    assert_sentence(done.err, part)
    assert not (tmp_path / "b").exists()


def test_an_npz_that_is_none(model: Path, hosts: Path, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "x.npz").write_text("no")
    np.save(tmp_path / "x.npy", np.zeros(3))
    for name, part in (("x.npz", "not an .npz"), ("y.npz", "not exist"), ("x.npy", "one array")):
        done = partc(
            capfd, "compile", model, "-t", hosts, "-o", tmp_path / "b", "--input", tmp_path / name
        )
        assert done.code == 2
        assert_sentence(done.err, part)


def test_an_unknown_command_is_answered_with_the_closest(capfd: Capture) -> None:
    done = partc(capfd, "compil")
    assert done.code == 2
    assert "Did you mean 'compile'" in done.err


def test_requests_that_do_not_fit_the_model(
    model: Path, hosts: Path, tmp_path: Path, capfd: Capture
) -> None:
    bundle = tmp_path / "b"
    assert partc(capfd, "compile", model, "-t", hosts, "-o", bundle, "-q").code == 0
    for arrays, part in (
        ({"z": np.zeros((1, 1, 64, 64), np.float32)}, "x"),
        ({"x": np.zeros((1, 1, 64, 64), np.float64)}, "float32"),
        ({"x": np.zeros((1, 1, 64, 63), np.float32)}, "64"),
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        done = partc(capfd, "run", bundle, "--input", tmp_path / "x.npz")
        assert done.code == 1
        assert_sentence(done.err, part)
    (bundle / "hosts" / "camera" / "s0.onnx").write_bytes(b"changed")
    done = partc(capfd, "run", bundle)
    assert done.code == 1
    assert_sentence(done.err, "s0.onnx")


def test_debug_shows_the_traceback(tmp_path: Path, capfd: Capture) -> None:
    done = partc(capfd, "--debug", "inspect", tmp_path)
    assert done.code == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize("after_s", [0.4, 1.0, 1.6])
def test_ctrl_c_leaves_nothing_half_written(
    after_s: float, model: Path, hosts: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "partc.cli", "compile", model, "-t", hosts, "-o", tmp_path / "b",
         "--no-store"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    left = {path.name for path in tmp_path.iterdir()} - {"m.onnx", "t.toml"}
    # CPython ends by the signal itself when the interrupt met an exec; a shell calls both 130.
    if process.returncode in (130, -signal.SIGINT):
        assert not left
        assert "interrupted" in err
    else:  # it was faster
        assert process.returncode == 0
        assert left == {"b"}


@pytest.mark.parametrize("arguments", [["solve", "nosuch.json"], ["solve"], ["inspect", "nosuch"]])
def test_with_json_a_failure_is_one_object_too(arguments: list[str], capfd: Capture) -> None:
    done = partc(capfd, *arguments, "--json")
    data = json.loads(done.out)
    assert done.code != 0
    assert data["exit_code"] == done.code
    assert data["error"] in done.err


def test_debug_may_stand_anywhere(capfd: Capture) -> None:
    done = partc(capfd, "solve", "nosuch.json", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err
