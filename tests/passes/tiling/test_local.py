"""Tiles on real processes over real sockets."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.emit.emit_bundle import emit_bundle
from partc.passes.ingest.read_model import read_model
from partc.passes.tiling.ranges import tileable_groups
from partc.pipeline import Pipeline
from partc.runtime.local import LocalDeployment
from partc.verification import verify_bundle
from tests.passes.tiling.support import STAR, assert_close, even_groups, planned
from tests.support.data import trained_model
from tests.support.oracle import run_whole
from tests.support.placements import topology_of

COSTED = (
    "infer-shapes,fold-constants,group-blocks,annotate-costs{repeats=3,pause_ms=0.0,budget_s=1.0}"
)
TRIANGLE = topology_of(("hub", "s0"), ("hub", "s1"), ("s0", "s1"))


def planned_in_tiles(
    model: onnx.ModelProto, topology: Topology, shares: list[float], stages: int
) -> Program:
    """Groups of a few stages each, which exchange halos; the tail runs on the hub."""
    program = Pipeline.parse(COSTED).run(read_model(model), topology)
    tileable = tileable_groups(program).along(2)[0]
    last = len(tileable.cuts) - 1
    ends = sorted({*range(stages, last, stages), last})
    given = planned(program, even_groups(tileable, shares, ends))
    return Pipeline.parse("tile,split,verify").run(given, topology)


@pytest.mark.parametrize(
    ("topology", "shares"), [(STAR, [2, 1, 1]), (TRIANGLE, [3, 2])], ids=["star", "triangle"]
)
def test_tiles_on_servers_of_their_own(
    topology: Topology, shares: list[float], tmp_path: Path
) -> None:
    trained = trained_model("resnet8")
    model = onnx.load(trained.path())
    program = planned_in_tiles(model, topology, shares, stages=2)
    assert program.verification is not None
    assert program.verification.max_rel_error < 1e-5
    path = tmp_path / "bundle"
    emit_bundle(program, topology, "tile,split,verify", path)
    verify_bundle(path)
    feeds = trained.sample()
    with LocalDeployment(path, emulate_links=False) as deployment:
        answer = deployment.request(feeds)
        assert_close(answer.outputs, run_whole(model, feeds))
        # A server that dies leaves its tiles to the device.
        deployment.kill_host("s1")
        assert_close(deployment.run(feeds), run_whole(model, feeds))
