"""What the probe's answer means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.detect import machine_from
from partc.targets.tensorrt.flavour import TENSORRT, TENSORRT_RTX

ORIN = {"name": "Orin", "compute_capability": "8.7", "memory_mib": 7620, "dla_cores": 0}


def answer(version: str | None, gpu: dict[str, Any] | None, reason: str = "") -> dict[str, Any]:
    return {"library": version, "gpu": gpu, "platform": "linux-aarch64-tegra", "reason": reason}


@pytest.mark.parametrize("version", ["10.3.0", "10.3.0.30", "10.16.1.11", "11.4.0.106"])
def test_a_version_that_partc_can_use(version: str) -> None:
    found = machine_from(TENSORRT, answer(version, ORIN))
    assert (found.version, found.reason) == (version, "")
    assert found.gpu is not None
    assert (found.gpu.version, found.gpu.name) == (version, "Orin")


@pytest.mark.parametrize("version", ["8.2.1.8", "8.6.2", "10.0.1", "10.2"])
def test_an_older_version_is_refused_in_a_sentence(version: str) -> None:
    found = machine_from(TENSORRT, answer(version, ORIN))
    assert found.gpu is None
    assert found.version == ""  # nothing of it may be asked, its parser neither
    assert f"TensorRT {version} is installed, and partc needs 10.3 or later" in found.reason
    assert "JetPack 6.1" in found.reason
    assert "onnxruntime-cpu" in found.reason


def test_the_two_libraries_have_numbers_of_their_own() -> None:
    assert machine_from(TENSORRT_RTX, answer("1.2.0.54", ORIN)).gpu is not None


def test_a_library_that_is_not_there_and_one_without_a_gpu() -> None:
    assert machine_from(TENSORRT, answer(None, None, "not installed")).reason == "not installed"
    found = machine_from(TENSORRT, answer("10.3.0", None, "no driver"))
    assert (found.version, found.gpu) == ("10.3.0", None)
    assert "there is no GPU that could run its engines: no driver" in found.reason


def test_what_is_said_where_nothing_is_installed_tells_of_pythons_version() -> None:
    assert "Python 3.10" in TENSORRT.install
    assert "3.11" in TENSORRT.install


def test_the_probe_asks_nothing_of_a_library_that_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module with a version and nothing else: whoever asks it for more ends in a traceback."""
    (tmp_path / "tensorrt.py").write_text('__version__ = "8.2.1.8"\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = ask(TENSORRT, {"job": "probe"}, timeout_s=60)
    assert (found["library"], found["gpu"]) == ("8.2.1.8", None)
    assert "needs 10.3 or later" in machine_from(TENSORRT, found).reason
