"""Every segment of real networks as a real engine, twice, byte for byte."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import onnx
import pytest

from examples.models import MODELS
from partc.ir.engine import EngineOptions, EngineRecipe, Precision
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.build.precision import SetPrecision
from partc.passes.contract import Context
from partc.passes.emit.engines import segment_shapes
from partc.passes.ingest.sample import sample_feeds
from partc.targets.tensorrt_rtx import BACKEND
from tests.support.engines import needs_builder
from tests.support.placements import ingested, split

pytestmark = [needs_builder(), pytest.mark.slow]

NETWORKS = ("mobilenetv2", "resnet50", "transformer")


def hosts(precision: Precision) -> Topology:
    target = {"target": "tensorrt-rtx", "precision": precision}
    return Topology.parse(
        {
            "hosts": {"one": target, "two": target},
            "links": [{"between": ["one", "two"], "bandwidth_mbit_s": 100}],
        }
    )


@cache
def cut(network: str) -> Program:
    """Three parts, on two hosts."""
    topology = hosts("fp32")
    program = ingested(MODELS[network](seed=0), pipeline="infer-shapes,fold-constants,group-blocks")
    blocks = program.blocks or ()
    placement = {
        op: "two" if len(blocks) // 3 <= index < 2 * len(blocks) // 3 else "one"
        for index, block in enumerate(blocks)
        for op in block.ops
    }
    return split(program, topology, placement)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("network", NETWORKS)
def test_segments_are_built_the_same_twice(
    network: str, precision: Precision, tmp_path: Path
) -> None:
    program = cut(network)
    context = Context(hosts(precision), calibration=(sample_feeds(program, 0),))
    program = SetPrecision().run(program, context).program
    (gpu,), _ = BACKEND.builders(("8.9",))
    segments = program.segments or ()
    assert len(segments) >= 3
    for segment in segments:
        assert segment.precision == precision
        model = segment.engine_source or segment.deployed or segment.model
        assert model is not None
        path = tmp_path / f"{segment.id}.onnx"
        onnx.save(model, path)
        shapes = segment_shapes(EngineOptions(), program, segment)
        recipe = EngineRecipe(flavour="tensorrt_rtx", optimization_level=2, shapes=shapes)
        digests = []
        for attempt in ("one", "two"):
            output = tmp_path / attempt
            BACKEND.build(path, recipe, gpu, output)
            digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
        assert digests[0] == digests[1], segment.id
