"""A bundle is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import partc
from partc.bundle.manifest import MANIFEST_NAME
from partc.bundle.writer import BundleWriter
from partc.errors import BundleError
from partc.verification import verify_bundle
from tests.support.nasty_models import floats, parsed
from tests.support.placements import QUICK, TWO_HOSTS

GRAPH = "g (float[2,3] x) => (float[2,3] y) {a = Exp(x) b = Neg(a) y = Relu(b)}"


def compiled(output: Path, **options: Any) -> partc.Bundle:
    model = parsed(GRAPH, {}).model
    return partc.compile(model, TWO_HOSTS, output=output, pipeline=QUICK, **options)


def refused(output: Path, **options: Any) -> str:
    with pytest.raises(BundleError) as caught:
        compiled(output, **options)
    assert caught.value.exit_code == 1
    return caught.value.message


class TestOutputThatExists:
    def test_a_bundle_is_kept_without_force(self, tmp_path: Path) -> None:
        first = compiled(tmp_path / "b").manifest
        assert "give --force" in refused(tmp_path / "b")
        assert partc.Bundle.open(tmp_path / "b").manifest == first

    def test_a_bundle_is_replaced_with_force(self, tmp_path: Path) -> None:
        compiled(tmp_path / "b")
        compiled(tmp_path / "b", seed=5, force=True)
        verify_bundle(tmp_path / "b")
        assert [p.name for p in tmp_path.iterdir()] == ["b"]

    @pytest.mark.parametrize("content", ["{}", '{"name": "a web app"}', "no json", "[1]"])
    def test_another_programs_folder_is_never_replaced(self, tmp_path: Path, content: str) -> None:
        folder = tmp_path / "app"
        folder.mkdir()
        (folder / MANIFEST_NAME).write_text(content)
        (folder / "precious").write_text("data")
        assert "is not a bundle" in refused(folder, force=True)
        assert (folder / "precious").read_text() == "data"

    def test_a_file_or_a_link_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("data")
        compiled(tmp_path / "real")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        for name in ("file", "link"):
            assert "is not a folder" in refused(tmp_path / name, force=True)
        assert (tmp_path / "file").read_text() == "data"

    def test_an_empty_folder_will_do(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        verify_bundle(compiled(tmp_path / "empty").path)

    def test_missing_parents_are_made(self, tmp_path: Path) -> None:
        verify_bundle(compiled(tmp_path / "a" / "b" / "c").path)

    def test_a_parent_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be written" in refused(tmp_path / "file" / "b")


def failing(real: Callable[..., Any], after: int, error: BaseException) -> Callable[..., Any]:
    calls = iter(range(10_000))

    def instead(*arguments: Any, **options: Any) -> Any:
        if next(calls) >= after:
            raise error
        return real(*arguments, **options)

    return instead


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, existing: bool
) -> None:
    output = tmp_path / "made" / "b"
    before = compiled(output).manifest if existing else None
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(BundleWriter, "_register", failing(BundleWriter._register, after, full))
    assert "the disk is full" in refused(output, force=True)
    monkeypatch.undo()
    if before is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert partc.Bundle.open(output).manifest == before
        verify_bundle(output)
        assert [p.name for p in output.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("moment", ["_register", "add_arrays", "finish"])
def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    interrupted = failing(getattr(BundleWriter, moment), 0, KeyboardInterrupt())
    monkeypatch.setattr(BundleWriter, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", [0, 1])
def test_an_interruption_between_the_two_renames_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    before = compiled(tmp_path / "b").manifest
    name = ("rename", "replace")[which]
    real = getattr(Path, name)

    def interrupted(self: Path, target: Path) -> Path:
        if name == "rename" and not target.name.endswith(".old"):
            return Path(real(self, target))
        if name == "rename":
            real(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path / "b", force=True)
    monkeypatch.undo()
    assert partc.Bundle.open(tmp_path / "b").manifest == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted only by root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    graph = (
        "g (float[1,100] x) => (float[1,100] y) <float[100,100] w> {a = MatMul(x, w) y = Exp(a)}"
    )
    model = parsed(graph, {}).model
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(100, 100), "w"))
    with pytest.raises(BundleError, match="the disk is full"):
        partc.compile(model, TWO_HOSTS, output=small_disk / "b", pipeline=QUICK)
    assert list(small_disk.iterdir()) == []


TOPOLOGY = """
[hosts.camera]
slowdown = 4
[hosts.server]
[[links]]
between = ["camera", "server"]
bandwidth_mbit_s = 20
rtt_ms = 10
"""


@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.2, 1.6, 2.0, 2.6])
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, after_s: float) -> None:
    (tmp_path / "m.onnx").write_bytes(parsed(GRAPH, {}).model.SerializeToString())
    (tmp_path / "t.toml").write_text(TOPOLOGY)
    arguments = ["compile", "m.onnx", "-t", "t.toml", "-o", "out/b", "--no-store"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from partc.cli.main import main; main()", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    left = sorted(p.name for p in tmp_path.iterdir())
    if process.returncode == 0:
        verify_bundle(tmp_path / "out" / "b")
    else:
        assert left == ["m.onnx", "t.toml"]
        if after_s >= 0.8:  # before that Python itself may still be starting
            assert "Traceback" not in stderr


class TestTampering:
    @pytest.fixture(scope="class")
    def pristine(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return compiled(tmp_path_factory.mktemp("bundle") / "b").path

    @pytest.fixture
    def bundle(self, pristine: Path, tmp_path: Path) -> Path:
        subprocess.run(["cp", "-r", str(pristine), str(tmp_path / "b")], check=True)
        verify_bundle(tmp_path / "b")
        return tmp_path / "b"

    def refused(self, bundle: Path) -> str:
        with pytest.raises(BundleError) as caught:
            verify_bundle(bundle)
        return caught.value.message

    def test_every_changed_file_is_found(self, bundle: Path) -> None:
        for name in partc.Bundle.open(bundle).manifest.files:
            data = (bundle / name).read_bytes()
            (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            assert "was changed" in self.refused(bundle)
            (bundle / name).write_bytes(data + b"x")
            assert "bytes and should have" in self.refused(bundle)
            (bundle / name).unlink()
            assert "is missing" in self.refused(bundle)
            (bundle / name).write_bytes(data)

    def test_a_newer_schema_says_to_update(self, bundle: Path) -> None:
        data = json.loads((bundle / MANIFEST_NAME).read_text())
        data["schema_version"] = 999
        (bundle / MANIFEST_NAME).write_text(json.dumps(data))
        assert "update partc on this host" in self.refused(bundle)

    def test_a_folder_without_a_manifest(self, tmp_path: Path) -> None:
        assert "is not a bundle" in self.refused(tmp_path)
        assert "is not a folder" in self.refused(tmp_path / "nowhere")

    def test_answers_that_are_not_the_stored_ones(self, bundle: Path) -> None:
        import hashlib

        golden = bundle / "golden" / "output.npz"
        with np.load(golden) as arrays:
            changed = {name: array + 1 for name, array in arrays.items()}
        np.savez(golden, allow_pickle=False, **changed)
        data = json.loads((bundle / MANIFEST_NAME).read_text())
        data["files"]["golden/output.npz"] = {
            "sha256": hashlib.sha256(golden.read_bytes()).hexdigest(),
            "size_bytes": golden.stat().st_size,
        }
        (bundle / MANIFEST_NAME).write_text(json.dumps(data))
        with pytest.raises(partc.PartcError, match="output 'y' differs from the whole model"):
            verify_bundle(bundle)
