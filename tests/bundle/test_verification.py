"""``partc verify`` looks at every plan of a bundle, and at what codecs lose."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from partc.bundle.reader import Bundle
from partc.errors import VerificationError
from partc.ir.topology import Topology
from partc.verification import verify_bundle
from tests.cli.support import partc
from tests.support.narrowing import OPS, Seconds, bundled

COSTS: Seconds = {
    "camera": {op: 0.0005 if op.startswith("/stem") else 0.02 for op in OPS},
    "server": 0.0002,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    topology = Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20, "rtt_ms": 2}],
            "constraints": {"codecs": ["int8"], "loss_budget": 0.05, "private_blocks": 2},
            "conditions": {"bandwidth_mbit_s": [0.05, 1000]},
        }
    )
    return bundled(topology, COSTS, tmp_path_factory.mktemp("verified") / "bundle")


def changed(bundle: Bundle, folder: Path, change: Any) -> Path:
    copy = Path(shutil.copytree(bundle.path, folder / "copy"))
    data = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    change(data)
    (copy / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    return copy


def test_it_finds_what_the_compiler_found(bundle: Bundle) -> None:
    check = verify_bundle(bundle.path)
    assert check.loss == pytest.approx(bundle.manifest.verified.loss, rel=1e-6)
    assert 0 < check.loss <= 0.05
    assert check.max_rel_error < 1e-4


def test_it_says_which_hosts_the_reference_checked(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on a machine that has not the server's backend."""

    def elsewhere(data: Any) -> None:
        data["hosts"]["server"]["backend"] = "acme-npu"

    assert verify_bundle(bundle.path).by_reference == {}
    copy = changed(bundle, tmp_path, elsewhere)
    why = "no backend named 'acme-npu' is installed here"
    assert verify_bundle(copy).by_reference == {"server": why}
    done = partc(capfd, "verify", copy, "--json")
    assert json.loads(done.out)["verified"]["by_reference"] == {"server": why}
    said = " ".join(partc(capfd, "verify", copy).err.split())
    assert f"Host server was checked by the reference implementation: {why}; verify" in said


def test_a_loss_over_the_budget_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """As on a machine on which codecs turn out to cost more."""

    def tighten(data: Any) -> None:
        data["topology"]["constraints"]["loss_budget"] = 1e-9

    with pytest.raises(VerificationError, match=r"lose .* more than the budget of 1e-09"):
        verify_bundle(changed(bundle, tmp_path, tighten))


def test_a_plan_of_the_portfolio_that_is_wrong_is_found(bundle: Bundle, tmp_path: Path) -> None:
    """The device-only plan of a segment file that computes something else."""
    portfolio = bundle.manifest.portfolio
    assert portfolio is not None
    alone = next(each for each in portfolio.plans if each.name == "device-only").plan.segments[0]
    assert alone.id not in {segment.id for segment in bundle.manifest.plan.segments}

    def swap(data: Any) -> None:
        path = tmp_path / "copy" / data["hosts"]["camera"]["artefacts"][alone.id]["path"]
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Neg"
        path.write_bytes(model.SerializeToString())
        name = data["hosts"]["camera"]["artefacts"][alone.id]["path"]
        content = path.read_bytes()
        data["files"][name] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
        }

    with pytest.raises(VerificationError, match="differs from the whole model's"):
        verify_bundle(changed(bundle, tmp_path, swap))
