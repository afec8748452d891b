"""verify: a difference is found at its tensor, and nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import partc
from partc.errors import VerificationError
from partc.ir.program import Program
from partc.passes.build.verify import Verify
from partc.passes.contract import Context
from partc.targets import loading
from partc.verification import verify_bundle
from tests.support.nasty_models import floats, parsed
from tests.support.oracle import assert_same, run_whole
from tests.support.placements import QUICK, TWO_HOSTS, ingested, split

GRAPH = """g (float[2,3] x) => (float[2,4] y) <float[3,4] w> {
    a = Relu(x) b = MatMul(a, w) c = Neg(b) y = Exp(c) }"""


def model() -> onnx.ModelProto:
    proto = parsed(GRAPH, {}).model
    del proto.graph.initializer[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(floats(3, 4), "w"))
    return proto


def cut() -> Program:
    program = ingested(model())
    first = [op.name for op in program.placed_ops[:2]]
    hosts = {op.name: "camera" if op.name in first else "server" for op in program.placed_ops}
    return split(program, TWO_HOSTS, hosts)


def test_equal_parts_are_verified_with_a_golden_pair() -> None:
    verified = Verify().run(cut(), Context(TWO_HOSTS)).program.verification
    assert verified is not None
    assert {d.tensor for d in verified.differences} == {"b", "y"}
    assert_same(dict(verified.outputs), run_whole(model(), dict(verified.feeds)))


@pytest.mark.parametrize(("segment", "tensor", "host"), [(0, "b", "camera"), (1, "y", "server")])
def test_a_segment_that_computes_something_else_is_refused(
    segment: int, tensor: str, host: str
) -> None:
    program = cut()
    segments = list(program.segments or ())
    broken = onnx.ModelProto()
    broken.CopyFrom(segments[segment].model)
    broken.graph.node[-1].op_type = "Abs"
    del broken.graph.node[-1].input[1:]
    if segment == 0:
        broken.graph.node[-1].op_type = "MatMul"
        broken.graph.node[-1].input.append("w")
        weight = onnx.numpy_helper.to_array(broken.graph.initializer[0])
        broken.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight * 1.01, "w"))
    segments[segment] = replace(segments[segment], model=broken)
    with pytest.raises(VerificationError, match=f"at '{tensor}'") as caught:
        Verify().run(replace(program, segments=tuple(segments)), Context(TWO_HOSTS))
    assert "nothing was written" in caught.value.message
    assert caught.value.host == host


def test_a_model_that_does_not_take_random_input_asks_for_a_sample(tmp_path: Path) -> None:
    graph = """g (int64[2] at) => (float[2] y) <float[1] w = {1}> {
        a = Identity(w) b = Gather(a, at) y = Exp(b) }"""
    with pytest.raises(partc.PartcError, match="--input"):
        partc.compile(
            parsed(graph, {}).model, TWO_HOSTS, output=tmp_path / "b", pipeline=QUICK, seed=1
        )
    assert list(tmp_path.iterdir()) == []


def test_models_past_the_size_of_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limits lowered, every step takes the way of a model over 2 GiB."""
    monkeypatch.setattr(loading, "LARGEST_IN_MEMORY_BYTES", 2000)
    monkeypatch.setattr("partc.bundle.writer._LARGEST_INLINE_BYTES", 2000)
    graph = "g (float[N,50] x) => (float[N,60] y) <float[50,60] w> {a = MatMul(x, w) y = Exp(a)}"
    proto = parsed(graph, {}).model
    del proto.graph.initializer[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(floats(50, 60), "w"))
    bundle = partc.compile(proto, TWO_HOSTS, output=tmp_path / "b", pipeline=QUICK)
    verify_bundle(bundle.path)
    beside = [name for name in bundle.manifest.files if name.endswith(".data")]
    assert any(name.startswith("hosts/") for name in beside)
    feeds = {"x": floats(3, 50)}
    (segment,) = bundle.path.glob("hosts/*/s0.onnx")
    (parts,), (whole,) = run_whole(segment, feeds).values(), run_whole(proto, feeds).values()
    np.testing.assert_array_equal(parts, whole)
