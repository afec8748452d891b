"""The pass in docs/writing_passes.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import partc
from partc.passes import registry
from partc.passes.invariants import INVARIANTS
from partc.pipeline import Pipeline
from partc.verification import verify_bundle
from tests.support.docs import DOCS, module_of
from tests.support.nasty_models import floats, parsed
from tests.support.oracle import run_whole
from tests.support.placements import TWO_HOSTS

PAGE = "writing_passes.md"


@pytest.fixture
def model() -> onnx.ModelProto:
    graph = """g (float[N,100] x) => (float[N,200] y)
        <float[100,200] w, float[200] b> {m = MatMul(x, w) a = Add(m, b) y = Relu(a)}"""
    model = parsed(graph, {}).model
    del model.graph.initializer[:]
    for name, array in (("w", floats(100, 200)), ("b", floats(200))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    halve = module_of(PAGE, "halve_weights").HalveWeights
    real = registry.load_pass
    monkeypatch.setattr(
        "partc.pipeline_text.load_pass",
        lambda name: halve if name == "halve-weights" else real(name),
    )
    match = re.search(r'--pipeline "([^"]+)"', page)
    assert match is not None
    return Pipeline.parse(match[1]).with_option("annotate-costs", repeats=3, pause_ms=0.0)


def test_the_pass_of_the_page_compiles_a_model(
    model: onnx.ModelProto, pipeline: Pipeline, tmp_path: Path
) -> None:
    assert str(pipeline).startswith("halve-weights{min_kib=16.0},")
    said: list[str] = []
    bundle = partc.compile(
        model,
        TWO_HOSTS,
        output=tmp_path / "b",
        # Half precision is a difference that the tolerance has to allow for.
        pipeline=pipeline.with_option("verify", tolerance=1e-2),
        observers=[lambda event: said.extend(event.result.diagnostics)],
    )
    assert "halved 1 weights" in said
    verify_bundle(bundle.path)
    (segment,) = bundle.path.glob("hosts/*/s0.onnx")
    cut = onnx.load(segment)
    assert {w.name: w.data_type for w in cut.graph.initializer} == {
        "w_half": onnx.TensorProto.FLOAT16,
        "b": onnx.TensorProto.FLOAT,
    }
    feeds = {"x": floats(3, 100, seed=1)}
    (exact,), (halved,) = run_whole(model, feeds).values(), run_whole(cut, feeds).values()
    np.testing.assert_allclose(halved, exact, atol=1e-2)
    assert not np.array_equal(halved, exact)


def test_the_page_names_every_invariant() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \| .*\|$", page, re.MULTILINE)[-len(INVARIANTS) :] == list(
        INVARIANTS
    )
