"""A bundle whose files were changed, linked or lost: refused before anything opens them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from partc.bundle.integrity import check_file
from partc.bundle.manifest import MANIFEST_NAME, FileEntry
from partc.bundle.reader import Bundle
from partc.errors import BundleError, IntegrityError, UsageError
from partc.runtime.device import open_bundle
from partc.runtime.server import HostServer
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

SEGMENT = "hosts/server/s1.onnx"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", plans.two_hosts())


def refused(bundle: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        Bundle.open(bundle).check()
    with pytest.raises(IntegrityError) as served:
        HostServer(bundle, "server")
    assert str(served.value) == str(caught.value)
    return str(caught.value)


def test_an_unchanged_bundle_passes(bundle: Path) -> None:
    Bundle.open(bundle).check()


def test_a_changed_byte(bundle: Path) -> None:
    data = bytearray((bundle / SEGMENT).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / SEGMENT).write_bytes(data)
    sentence = refused(bundle)
    assert f"file {SEGMENT!r}" in sentence
    assert "was changed after compiling" in sentence
    assert "compile it again" in sentence


def test_another_size(bundle: Path) -> None:
    with (bundle / SEGMENT).open("ab") as file:
        file.write(b"\0")
    assert "bytes and should have" in refused(bundle)


def test_a_missing_file(bundle: Path) -> None:
    (bundle / SEGMENT).unlink()
    assert f"file {SEGMENT!r} of bundle {bundle} is missing" in refused(bundle)


def test_a_symbolic_link(bundle: Path, tmp_path: Path) -> None:
    (bundle / SEGMENT).rename(tmp_path / "elsewhere")
    (bundle / SEGMENT).symlink_to(tmp_path / "elsewhere")
    assert f"{SEGMENT!r} of bundle {bundle} is a symbolic link" in refused(bundle)


def test_a_linked_folder(bundle: Path, tmp_path: Path) -> None:
    (bundle / "hosts/server").rename(tmp_path / "elsewhere")
    (bundle / "hosts/server").symlink_to(tmp_path / "elsewhere")
    assert "'hosts/server' of bundle" in refused(bundle)


def test_a_hard_link(bundle: Path, tmp_path: Path) -> None:
    os.link(bundle / SEGMENT, tmp_path / "second name")
    assert "has 2 names (hard links)" in refused(bundle)


def test_something_that_is_not_a_file(bundle: Path) -> None:
    (bundle / SEGMENT).unlink()
    os.mkfifo(bundle / SEGMENT)
    assert "is not a plain file" in refused(bundle)


def test_a_path_that_leaves_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    entry = FileEntry(sha256=hashlib.sha256(b"x").hexdigest(), size_bytes=1)
    with pytest.raises(IntegrityError, match="leaves the bundle"):
        check_file(bundle, "../outside", entry)


def test_checking_can_be_left_out(bundle: Path) -> None:
    with (bundle / SEGMENT).open("ab") as file:
        file.write(b"\x0a\x00")
    with pytest.raises(IntegrityError):
        HostServer(bundle, "server")
    with HostServer(bundle, "server", verify_files=False):
        pass


def test_a_host_needs_only_its_own_part(bundle: Path) -> None:
    shutil.rmtree(bundle / "hosts/camera")
    with HostServer(bundle, "server") as server:
        assert server.address
    with pytest.raises(IntegrityError, match=r"hosts/camera/s0\.onnx"):
        open_bundle(bundle, addresses={"server": "127.0.0.1:1"})


def test_external_data_is_checked_with_its_model(bundle: Path) -> None:
    weights = bundle / f"{SEGMENT}.data"
    weights.write_bytes(b"weights")
    manifest = json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["files"][f"{SEGMENT}.data"] = {
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "size_bytes": 7,
    }
    manifest["hosts"]["server"]["artefacts"]["s1"]["data"] = [f"{SEGMENT}.data"]
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    with HostServer(bundle, "server"):
        pass
    weights.write_bytes(b"WEIGHTS")
    with pytest.raises(IntegrityError, match=r"s1\.onnx\.data"):
        HostServer(bundle, "server")


def test_unknown_names(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    with pytest.raises(UsageError, match="Did you mean 'server'"):
        opened.host("sever")
    with pytest.raises(BundleError, match="no segment named 's7'"):
        opened.artefact_path("server", "s7")
    assert opened.artefact_path("camera", "s1") == bundle / "hosts/camera/fallback/s1.onnx"
    with pytest.raises(UsageError, match="start at host 'camera'"):
        open_bundle(bundle, host="server")
    with pytest.raises(UsageError, match="host 'server' has no address"):
        open_bundle(bundle)
    with pytest.raises(UsageError, match="Did you mean 'server'"):
        open_bundle(bundle, addresses={"serverr": "127.0.0.1:1"})
    with pytest.raises(UsageError, match="deadline must be a positive number"):
        open_bundle(bundle, addresses={"server": "127.0.0.1:1"}, deadline_s=-1)


def test_what_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        open_bundle(tmp_path / "nothing")


def test_the_golden_pair(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    with pytest.raises(BundleError, match=r"has no golden/input\.npz"):
        opened.golden()
    (bundle / "golden").mkdir()
    x = plans.sample()["x"]
    np.savez(bundle / "golden/input.npz", x=x, text=np.array(["a", "b"]))
    np.savez(bundle / "golden/output.npz", y=6 * x)
    manifest = json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    for name in ("golden/input.npz", "golden/output.npz"):
        data = (bundle / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][name] = {"sha256": digest, "size_bytes": len(data)}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    inputs, outputs = Bundle.open(bundle).golden()
    np.testing.assert_array_equal(inputs["x"], x)
    assert inputs["text"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(outputs["y"], 6 * x)
    np.savez(bundle / "golden/output.npz", y=5 * x)
    with pytest.raises(IntegrityError, match=r"golden/output\.npz"):
        Bundle.open(bundle).golden()


def test_bundles_are_told_apart_by_plan_and_artefacts(bundle: Path, tmp_path: Path) -> None:
    same = write_bundle(tmp_path / "same", plans.two_hosts())
    other = write_bundle(tmp_path / "other", plans.there_and_back())
    identity = Bundle.open(bundle).identity
    assert Bundle.open(same).identity == identity
    assert Bundle.open(other).identity != identity
