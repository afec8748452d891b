"""Which ops a host can run is asked of the model in the host's precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest

import partc
from partc.bundle.reader import Bundle
from partc.errors import TopologyError, UnsupportedOpError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.annotate.deployed_model import DeployedModel
from partc.passes.annotate.group_blocks import GroupBlocks
from partc.passes.contract import Context
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Pipeline
from partc.targets.meter import LocalMeter
from partc.targets.registry import load_backend
from partc.verification import verify_bundle
from tests.passes.annotate.test_precision import types_of
from tests.passes.build.test_lowering import model_of
from tests.passes.build.test_served_ops import model
from tests.support.engine_hosts import camera_and_gpu
from tests.support.engines import needs_builder
from tests.support.nasty_models import floats
from tests.support.placements import QUICK as QUICK_PIPELINE

QUICK = AnnotateCosts(repeats=3, pause_ms=0.0)
INGEST = Pipeline.parse("infer-shapes,fold-constants")
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

SAMPLES = ({"x": floats(1, 3, 8, 8)},)

Refuses = Callable[[onnx.NodeProto, int], str]
"""Node, and the element type of its first weight (0 if it has none) -> why not, or empty."""


@dataclass(frozen=True)
class Picky(LocalMeter):
    """Measures on this machine, and refuses what it is told to; keeps what it was asked."""

    refuses: Refuses = lambda node, kind: ""
    asked: list[onnx.ModelProto] = field(default_factory=list)

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        self.asked.append(model)
        kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
        reasons = {
            node.name: self.refuses(node, next((kinds[t] for t in node.input if t in kinds), 0))
            for node in model.graph.node
        }
        return {name: reason for name, reason in reasons.items() if reason}


def picky(refuses: Refuses) -> Picky:
    return Picky(load_backend("onnxruntime"), refuses=refuses)


def no_half_convolution(node: onnx.NodeProto, kind: int) -> str:
    return "the toy has no Conv of halves" if (node.op_type, kind) == ("Conv", HALF) else ""


def no_float_convolution(node: onnx.NodeProto, kind: int) -> str:
    return "the toy has no Conv of floats" if (node.op_type, kind) == ("Conv", FLOAT) else ""


def hosts(**precisions: str) -> Topology:
    names = list(precisions)
    return Topology.parse(
        {
            "hosts": {name: {"precision": precisions[name]} for name in names},
            "links": [
                {"between": [one, other], "bandwidth_mbit_s": 20} for one, other in pairwise(names)
            ],
        }
    )


def annotated(topology: Topology, meter: Picky, **context: Any) -> Program:
    given = Context(topology, meters=dict.fromkeys(topology.hosts, meter), **context)
    program = INGEST.run(read_model(model()), topology, context=given)
    return QUICK.run(GroupBlocks().run(program, given).program, given).program


def refused_ops(program: Program) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in program.refusals:
        found.setdefault(each.host, set()).add(each.op)
    return found


def test_an_op_may_be_refused_in_one_precision_alone() -> None:
    program = annotated(hosts(a="fp32", b="fp16"), picky(no_half_convolution))
    assert refused_ops(program) == {"b": {"make_c", "make_d"}}
    assert program.costs is not None
    for block in program.blocks or ():
        dense = {"make_c", "make_d"} & set(block.ops)
        assert set(program.costs.costs[block.name]) == ({"a"} if dense else {"a", "b"})
    (notice,) = [each for each in program.notices if "cannot run" in each]
    assert notice == (
        "host 'b' cannot run 2 ops ('make_c': in fp16, the toy has no Conv of halves)"
    )


def test_hosts_of_one_precision_are_asked_once() -> None:
    meter = picky(no_half_convolution)
    annotated(hosts(a="fp32", b="fp16", c="fp16", d="int8"), meter, calibration=SAMPLES)
    of_halves = [m for m in meter.asked if HALF in {w.data_type for w in m.graph.initializer}]
    of_bytes = [m for m in meter.asked if "QuantizeLinear" in types_of(m)]
    assert (len(of_halves), len(of_bytes)) == (1, 1)


def test_ranges_of_int8_decide_nothing_so_no_samples_are_needed() -> None:
    """What is measured needs them; what an imported profile or a data sheet tells does not."""
    meter = picky(lambda node, kind: "no bytes" if node.op_type == "QuantizeLinear" else "")
    topology = Topology.parse(
        {
            "hosts": {"a": {}, "b": {"target": "jetson-orin-nano", "precision": "int8"}},
            "links": [{"between": ["a", "b"], "bandwidth_mbit_s": 20}],
        }
    )
    context = Context(topology, meters={"a": meter})
    program = INGEST.run(read_model(model()), topology, context=context)
    found = QUICK.run(GroupBlocks().run(program, context).program, context).program
    assert not found.refusals
    with pytest.raises(TopologyError, match="--calibration"):
        annotated(hosts(a="fp32", b="int8"), meter)


def test_quantisation_that_is_refused_keeps_its_convolution_off() -> None:
    meter = picky(lambda node, kind: "no bytes" if node.op_type == "QuantizeLinear" else "")
    program = annotated(hosts(a="fp32", b="int8"), meter, calibration=SAMPLES)
    assert refused_ops(program) == {"b": {"make_c", "make_d"}}
    assert all(each.reason == "in int8, no bytes" for each in program.refusals)


def test_what_is_said_of_the_op_itself_counts_first() -> None:
    asked = DeployedModel(onnx.ModelProto(), {"cast": "c", "c": "c", "d": "d"}, "fp16")
    said = {"cast": "no Cast", "c": "no Conv", "of a constant": "no Shape"}
    assert asked.blamed(said) == {"c": "in fp16, no Conv"}
    assert asked.blamed({"cast": "no Cast"}) == {"c": "in fp16, no Cast"}
    assert DeployedModel(onnx.ModelProto()).blamed(said) == said


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_backend_that_has_an_op_only_in_the_precision_of_its_host(precision: str) -> None:
    """Nothing refuses the op in the end, so the first look does not stop at it."""
    program = annotated(hosts(a=precision), picky(no_float_convolution), calibration=SAMPLES)
    assert not program.refusals
    with pytest.raises(UnsupportedOpError, match="is known to no backend of this topology"):
        annotated(hosts(a="fp32"), picky(no_float_convolution))


def test_an_op_that_no_host_runs_as_deployed_is_named_with_all_reasons() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(hosts(a="fp16"), picky(no_half_convolution))
    assert caught.value.op == "make_c"
    said = str(caught.value)
    assert "op 'make_c' (Conv) runs on no host of this topology: not on 'a', since in fp16" in said
    assert "another target or precision" in said
    assert "\n" not in said


def test_ops_of_one_block_that_different_hosts_refuse() -> None:
    one = picky(lambda node, kind: "no Relu" if node.op_type == "Relu" else "")
    other = picky(no_half_convolution)
    topology = hosts(a="fp32", b="fp16")
    context = Context(topology, meters={"a": one, "b": _Elsewhere(other)})
    program = INGEST.run(read_model(model()), topology, context=context)
    with pytest.raises(UnsupportedOpError) as caught:
        QUICK.run(GroupBlocks().run(program, context).program, context)
    assert "not on 'a', since no Relu" in str(caught.value)
    assert "('make_c', which runs in one block with it)" in str(caught.value)


class _Elsewhere(Picky):
    """Answers for another machine."""

    def __init__(self, meter: Picky) -> None:
        super().__init__(meter.backend, meter.provider, meter.refuses, meter.asked)

    @property
    def where(self) -> str:
        return "another machine"


TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    a = ACTIVATION (c)
    y = Conv <pads = [1,1,1,1]> (a, v)
}"""


def compiled(folder: Path, activation: str, precision: str) -> Bundle:
    graph = model_of(
        TEXT.replace("ACTIVATION", activation), w=floats(4, 3, 3, 3), v=floats(4, 4, 3, 3)
    )
    for node in graph.graph.node:
        node.name = f"make_{node.output[0]}"
    topology = camera_and_gpu(folder, precision=precision, engine={"compute_capabilities": ["8.9"]})
    return partc.compile(
        graph, topology, output=folder / "bundle", pipeline=QUICK_PIPELINE,
        sample={"x": floats(1, 3, 8, 8)}, use_store=False,
    )  # fmt: skip


@needs_builder()
@pytest.mark.parametrize(
    ("activation", "precision"), [("MeanVarianceNormalization", "fp16"), ("HardSwish", "bf16")]
)
class TestWithARealParser:
    """It takes these in float32, and not in the precision of the host."""

    def test_the_op_is_kept_off(self, activation: str, precision: str, tmp_path: Path) -> None:
        bundle = compiled(tmp_path, activation, precision)
        placed = {op: s.host for s in bundle.manifest.plan.segments for op in s.ops}
        assert placed == {"make_c": "gpu", "make_a": "camera", "make_y": "gpu"}
        (refused,) = bundle.manifest.hosts["gpu"].refused
        assert (refused.op, refused.found_by) == ("make_a", "backend")
        said = f"in {precision}, TensorRT-RTX refuses {activation}: "
        assert refused.reason.startswith(said)
        (notice,) = [n for n in bundle.manifest.notices if "cannot run" in n]
        assert notice.startswith(f"host 'gpu' cannot run 1 op ('make_a': {said}")
        engines = bundle.manifest.hosts["gpu"].engines
        assert engines and all(entry.state == "built" for entry in engines.values())
        verify_bundle(tmp_path / "bundle")

    def test_in_float32_it_is_not(self, activation: str, precision: str, tmp_path: Path) -> None:
        bundle = compiled(tmp_path, activation, "fp32")
        assert {segment.host for segment in bundle.manifest.plan.segments} == {"gpu"}
        assert not bundle.manifest.hosts["gpu"].refused
