"""A bundle for a board that is not here: its costs are estimated, its answers checked."""

from __future__ import annotations

from pathlib import Path

import pytest

import partc
from examples.models import MODELS
from partc.errors import TargetError
from partc.ir.topology import Topology
from partc.pipeline import DEFAULT_PIPELINE
from partc.verification import verify_bundle

PIPELINE = DEFAULT_PIPELINE.replace("annotate-costs", "annotate-costs{repeats=6,pause_ms=0.0}")
PIPELINE = PIPELINE.replace("refine-costs", "refine-costs{budget_s=1.0,pause_ms=0.0}")


def topology(camera: str) -> Topology:
    return Topology.parse(
        {
            "hosts": {"camera": {"target": camera}, "server": {"target": "onnxruntime-cpu"}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 100, "rtt_ms": 1}],
        }
    )


@pytest.mark.parametrize("camera", ["jetson-nano", "raspberry-pi-5", "intel-myriad-x"])
def test_a_board_that_is_not_here_is_estimated(camera: str, tmp_path: Path) -> None:
    model = MODELS["detector"](seed=0)
    bundle = partc.compile(model, topology(camera), output=tmp_path / "b", pipeline=PIPELINE)
    manifest = bundle.manifest
    provenances = {
        host: {block.costs[host].provenance for block in manifest.blocks if host in block.costs}
        for host in manifest.hosts
    }
    assert provenances["camera"] == {"estimated"}
    assert "estimated" not in provenances["server"]
    assert verify_bundle(bundle.path).max_rel_error < 1e-4


def test_estimates_can_be_refused(tmp_path: Path) -> None:
    pipeline = PIPELINE.replace("annotate-costs{", "annotate-costs{costs=measured,")
    with pytest.raises(TargetError, match=r"no measured costs: .*not NVIDIA Jetson Nano"):
        partc.compile(
            MODELS["detector"](seed=0),
            topology("jetson-nano"),
            output=tmp_path / "b",
            pipeline=pipeline,
        )
    assert not (tmp_path / "b").exists()
