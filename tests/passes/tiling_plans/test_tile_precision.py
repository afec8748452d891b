"""Tiles of hosts of a lower precision are measured in that precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import pytest

from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Pipeline
from partc.targets.meter import Job, LocalMeter
from partc.targets.protocol import Array, Profile, RunSettings, Sampling
from tests.passes.tiling_plans.test_plan_tiles import FREE, convolutions, triangle
from tests.support.nasty_models import floats

QUICK = "repeats=3,budget_s=0.1,pause_ms=0.0"
SAMPLE = {"image": floats(1, 3, 48, 48)}


def marks_of(model: onnx.ModelProto) -> str:
    """In which precision a model with convolutions was written."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    types = {weight.data_type for weight in model.graph.initializer}
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tiles_are_measured_as_they_will_be_deployed(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, RunSettings, bool]] = []
    profile, in_turn = LocalMeter.profile, LocalMeter.interleaved_times

    def note(model: onnx.ModelProto, settings: RunSettings) -> None:
        if any(node.op_type == "Conv" for node in model.graph.node):
            seen.append((marks_of(model), settings, "tile" in model.graph.name))

    def profiled(
        self: LocalMeter,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        note(model, settings)
        return profile(self, model, feeds, settings, sampling)

    def timed(
        self: LocalMeter, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        for model, _ in jobs:
            note(model, settings)
        return in_turn(self, jobs, settings, sampling)

    monkeypatch.setattr(LocalMeter, "profile", profiled)
    monkeypatch.setattr(LocalMeter, "interleaved_times", timed)
    plain = triangle(use="always", hosts=["left", "right"])
    hosts = {
        name: host.model_copy(update={"precision": precision if name != "camera" else "fp32"})
        for name, host in plain.hosts.items()
    }
    topology = Topology.model_validate(plain.model_copy(update={"hosts": hosts}).model_dump())
    context = Context(topology, message_cost=FREE, calibration=(SAMPLE,))
    passes = Pipeline.parse(
        f"infer-shapes,fold-constants,group-blocks,annotate-costs{{{QUICK}}},partition,"
        "plan-tiles{rounds=1,budget_s=0.1,pause_ms=0.0},tile,split,verify"
    ).with_precision(topology)
    done = passes.run(read_model(convolutions()), topology, context=context)
    assert done.tiled is not None
    assert any(is_tile for _, _, is_tile in seen)
    for marks, settings, _ in seen:
        assert marks == settings.precision
    assert {settings.precision for _, settings, _ in seen} == {"fp32", precision}
