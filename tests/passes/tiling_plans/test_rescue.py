"""Constraints that only plans with tiles keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from partc.errors import InfeasibleError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Problem, solve
from partc.passes.contract import Context
from partc.pipeline import Pipeline
from tests.passes.tiling_plans.test_plan_tiles import FREE, convolutions, costed, triangle
from tests.support.nasty_models import parsed
from tests.support.placements import ingested

PLANNED = "partition,plan-tiles{rounds=1,budget_s=0.1,pause_ms=0.0}"
SERVER_S = 0.02  # a convolution on a server; four of them take 80 ms there


def limited(topology: Topology, memory_mib: float | None = None, **limits: Any) -> Topology:
    data = topology.model_dump(exclude_none=True, mode="json")
    data["constraints"] = limits
    if memory_mib is not None:
        for host in data["hosts"].values():
            host["memory_mib"] = memory_mib
    return Topology.parse(data)


def made(topology: Topology, model: onnx.ModelProto, pipeline: str = PLANNED) -> Program:
    program = costed(ingested(model, topology), topology, camera_s=0.5, server_s=SERVER_S)
    context = Context(topology, message_cost=FREE)
    return Pipeline.parse(pipeline).run(program, topology, context=context)


@pytest.mark.usefixtures("unmeasured")
def test_a_deadline_that_one_server_alone_misses() -> None:
    topology = limited(triangle(), deadline_ms=70.0)
    program = made(topology, convolutions(), f"{PLANNED},tile,split,verify")
    assert program.plan is not None and not program.plan.unmet
    assert program.tiled is not None and program.tiled.groups
    assert program.plan.certificate.predicted_s < 0.07
    assert program.plan.verdict is not None
    assert "Only with tiles over 2 hosts" in program.plan.verdict.sentence
    names = [strategy.name for strategy in program.plan.strategies]
    assert "optimal" in names and "vertical" not in names and "device-only" not in names
    assert program.verification is not None and program.verification.max_rel_error < 1e-5
    written = Problem.from_dict(dict(program.plan.problem))
    assert solve(written).status == "infeasible", "the problem is the one that was asked for"


@pytest.mark.usefixtures("unmeasured")
def test_a_deadline_that_nobody_meets() -> None:
    with pytest.raises(InfeasibleError, match=r"0\.01 s.* Nor does any plan with tiles"):
        made(limited(triangle(), deadline_ms=10.0), convolutions())


def test_without_plan_tiles_the_constraints_are_not_forgotten() -> None:
    topology = limited(triangle(), deadline_ms=70.0)
    for pipeline in ("partition,split", "partition,plan-tiles{use=never},tile,split"):
        with pytest.raises(InfeasibleError, match=r"at most 0\.07 s"):
            made(topology, convolutions(), pipeline)
    with pytest.raises(InfeasibleError):
        made(limited(triangle(use="never"), deadline_ms=70.0), convolutions())


@pytest.mark.usefixtures("unmeasured")
def test_a_layer_whose_weights_fit_no_host() -> None:
    """Its channels are shared: each host holds a part of them."""
    weights = {"w": np.ones((512, 1024), np.float32) / 512}  # 2 MiB
    graph = "g (float[1,512] x) => (float[1,1024] y) {m = MatMul(x, w) y = Relu(m)}"
    model = parsed(graph, {}).model
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights["w"], "w"))
    topology = limited(triangle(), memory_mib=1.5)
    program = made(topology, model, f"{PLANNED},tile,split,verify")
    assert program.tiled is not None and program.tiled.groups
    for segment in program.segments or ():
        assert segment.model is not None
        assert segment.model.ByteSize() < 1.5 * 2**20
    with pytest.raises(InfeasibleError, match="memory"):
        made(limited(triangle(), memory_mib=0.5), model)
