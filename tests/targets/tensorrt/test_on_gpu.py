"""Engines executed for real; on machines without such a GPU these tests are skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from partc.ir.engine import EngineRecipe, ShapeRange
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.reference import open_reference
from partc.targets.registry import load_backend
from partc.targets.tensorrt.builder import build
from partc.targets.tensorrt.flavour import LIBRARIES, Library
from partc.targets.tensorrt.immediate import open_now
from partc.targets.tensorrt.runner import EngineRunner
from tests.support.engines import machine, needs_gpu
from tests.support.nasty_models import floats

BOTH = [pytest.param(LIBRARIES[flavour], marks=needs_gpu(flavour)) for flavour in sorted(LIBRARIES)]

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,16,16] x) => (float[N,10] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    m = MatMul(f, v)
    y = Softmax(m)
}"""


def model(batch: int | str = 2) -> onnx.ModelProto:
    found = onnx.parser.parse_model(TEXT.replace("N", str(batch)))
    for name, values in (("w", floats(8, 3, 3, 3) * 0.3), ("v", floats(8, 10, seed=1))):
        found.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for index, node in enumerate(found.graph.node):
        node.name = f"{node.op_type}_{index}"
    return found


def feeds(batch: int = 2, seed: int = 2) -> dict[str, Any]:
    return {"x": floats(batch, 3, 16, 16, seed=seed)}


def expected(given: dict[str, Any]) -> Any:
    with open_reference(model("N")) as runner:
        return runner.run(given)["y"]


def close(actual: Any, wanted: Any) -> None:
    np.testing.assert_allclose(actual, wanted, atol=1e-4)


@pytest.mark.parametrize("library", BOTH)
def test_answers_are_those_of_the_model_with_and_without_a_graph(
    library: Library, tmp_path: Path
) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    recipe = EngineRecipe(flavour=library.flavour)
    with open_now(library, tmp_path / "model.onnx", recipe) as runner:
        for seed in range(6):
            given = feeds(seed=seed)
            close(runner.run(given)["y"], expected(given))


@pytest.mark.parametrize("library", BOTH)
def test_open_shapes(library: Library, tmp_path: Path) -> None:
    onnx.save(model("N"), tmp_path / "model.onnx")
    side = [3, 16, 16]
    shapes = {"x": ShapeRange(min=[1, *side], opt=[2, *side], max=[4, *side])}
    recipe = EngineRecipe(flavour=library.flavour, shapes=shapes)
    gpu = machine(library.flavour).gpu
    assert gpu is not None
    build(library, tmp_path / "model.onnx", recipe, gpu, tmp_path / "engine")
    with EngineRunner(library, tmp_path / "engine", recipe) as runner:
        for batch in (1, 4, 2, 3):
            given = feeds(batch, seed=batch)
            close(runner.run(given)["y"], expected(given))


@pytest.mark.parametrize("library", BOTH)
def test_a_profile_names_the_ops_of_the_graph(library: Library) -> None:
    profile = load_backend(library.backend).profile(
        model(), feeds(), RunSettings(), Sampling(repeats=5, pause_s=0.0)
    )
    names = {node.name for node in model().graph.node}
    assert profile.op_s
    assert set(profile.op_s) <= names
    assert len(profile.whole_s) == 5
    assert all(seconds > 0 for seconds in profile.whole_s)


@pytest.mark.parametrize("library", BOTH)
def test_many_engines_one_after_the_other_leave_nothing(library: Library, tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    recipe = EngineRecipe(flavour=library.flavour)
    gpu = machine(library.flavour).gpu
    assert gpu is not None
    build(library, tmp_path / "model.onnx", recipe, gpu, tmp_path / "engine")
    for _ in range(20):
        with EngineRunner(library, tmp_path / "engine", recipe) as runner:
            runner.run(feeds())
