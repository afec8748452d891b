"""Costs in a lower precision through an agent: a process of its own, over a real socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

import partc
from partc.agent.meter import AgentMeter
from partc.ir.topology import Topology
from partc.measure.store import CostStore
from partc.pipeline import DEFAULT_PIPELINE
from partc.targets.protocol import RunSettings
from tests.agent.support import AgentProcess
from tests.cli.support import small_model
from tests.support.nasty_models import floats

PIPELINE = DEFAULT_PIPELINE.replace(
    "annotate-costs", "annotate-costs{repeats=3,pause_ms=0.0}"
).replace("refine-costs", "refine-costs{repeats=3,pause_ms=0.0,budget_s=1.0}")
SAMPLE = {"x": floats(1, 1, 64, 64)}


def is_rewritten(model: onnx.ModelProto, precision: str) -> bool:
    if precision == "int8":
        return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return any(
        attribute.i == onnx.TensorProto.FLOAT16
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Cast"
    )


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_node_measures_what_it_will_run(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, RunSettings, list[onnx.ModelProto]]] = []
    ask = AgentMeter._ask

    def noted(
        self: AgentMeter, kind: Any, subjects: Sequence[Any], *given: Any, **named: Any
    ) -> Any:
        settings = next((each for each in given if isinstance(each, RunSettings)), None)
        if settings is not None:
            asked.append((kind, settings, [model for model, _ in subjects]))
        return ask(self, kind, subjects, *given, **named)

    monkeypatch.setattr(AgentMeter, "_ask", noted)
    store = CostStore(tmp_path / "costs.sqlite")
    with AgentProcess(tmp_path / "agent") as agent:
        topology = Topology.parse(
            {
                "hosts": {
                    "camera": {"slowdown": 4.0},
                    "server": {"agent": agent.address, "precision": precision},
                },
                "links": [
                    {"between": ["camera", "server"], "bandwidth_mbit_s": 1000, "fixed_ms": 0.1}
                ],
                "constraints": {"pin": {"camera": ["pool"], "server": ["conv"]}},
            }
        )
        bundle = partc.compile(
            small_model(tmp_path / "m.onnx"), topology, output=tmp_path / "bundle",
            pipeline=PIPELINE, store=store, sample=SAMPLE, calibration=(SAMPLE,),
        )  # fmt: skip
    timed = [each for each in asked if each[0] in ("profile", "interleaved")]
    assert {kind for kind, _, _ in timed} == {"profile", "interleaved"}
    for _, settings, models in timed:
        assert settings.precision == precision
        assert all(is_rewritten(model, precision) for model in models)
    kinds = {
        kind: {e.what.kind for e in store.entries() if e.what.precision == kind}
        for kind in ("fp32", precision)
    }
    assert kinds[precision] == {"block", "whole", "segment-fixed", "segment"}
    assert {"block", "whole", "segment-fixed"} <= kinds["fp32"]
    assert bundle.manifest.hosts["server"].costs_precision == precision
    assert bundle.manifest.hosts["camera"].costs_precision == "fp32"
