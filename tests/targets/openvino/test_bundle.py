"""A bundle whose hosts run on different backends."""

from __future__ import annotations

from pathlib import Path

import pytest

import partc
from examples.models import MODELS
from partc.bundle.reader import Bundle
from partc.ir.topology import Topology
from partc.runtime.local import LocalDeployment
from partc.targets import reference
from partc.targets.meter import detection_of
from partc.targets.protocol import Detection
from partc.targets.reference import open_reference
from partc.verification import verify_bundle
from tests.support.oracle import assert_same
from tests.support.placements import QUICK


def mixed(pinned: dict[str, list[str]]) -> Topology:
    return Topology.parse(
        {
            "hosts": {
                "camera": {"target": "onnxruntime-cpu", "slowdown": 2.0},
                "server": {"target": "openvino-cpu"},
            },
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 1000, "rtt_ms": 1}],
            "constraints": {"pin": pinned},
        }
    )


def compiled(folder: Path, name: str) -> Bundle:
    model = MODELS[name](seed=0)
    nodes = [node.name for node in model.graph.node if node.op_type == "Conv"]
    topology = mixed({"camera": nodes[:1], "server": nodes[-1:]})
    return partc.compile(model, topology, output=folder, pipeline=QUICK)


def test_both_backends_give_the_whole_models_answer_together(tmp_path: Path) -> None:
    model = MODELS["detector"](seed=0)
    bundle = compiled(tmp_path / "bundle", "detector")
    manifest = bundle.manifest
    assert {segment.host for segment in manifest.plan.segments} == {"camera", "server"}
    assert manifest.hosts["server"].backend == "openvino"
    assert verify_bundle(bundle.path).max_rel_error < 1e-4
    feeds = bundle.golden()[0]
    with open_reference(model) as whole, LocalDeployment(bundle) as local:
        assert_same(local.run(feeds), whole.run(feeds))
    assert not any("were checked with" in notice for notice in manifest.notices)


def test_without_openvino_the_reference_checks_and_the_bundle_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Detection(False, "OpenVINO is not installed: pip install it", "", "")
    real = detection_of
    monkeypatch.setattr(
        reference,
        "detection_of",
        lambda backend, provider: (
            missing if backend.name == "openvino" else real(backend, provider)
        ),
    )
    bundle = compiled(tmp_path / "bundle", "detector")
    said = [notice for notice in bundle.manifest.notices if "were checked with" in notice]
    assert len(said) == 1
    assert "'server'" in said[0] and "pip install it" in said[0]
    verify_bundle(bundle.path)
