"""Machine code inside an engine is run where the caller says so, and the recipe is no caller."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.runner import EngineRunner
from tests.targets.tensorrt.fake_gpu import FakeCuda, FakeLibrary

MODEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {y = Neg(x)}"""


def runtime_of(recipe: EngineRecipe, **options: bool) -> Any:
    """The runtime that read an engine, with what it was told."""
    cuda = FakeCuda()
    library: Any = FakeLibrary(onnx.parser.parse_model(MODEL), cuda)
    module = library.load()
    library.load = lambda: module
    driver: Any = cuda
    EngineRunner(library, b"engine", recipe, driver, **options).close()
    return module.Runtime(None)


@pytest.mark.parametrize("version_compatible", [False, True])
def test_it_is_refused_unless_it_is_allowed(version_compatible: bool) -> None:
    recipe = EngineRecipe(flavour="tensorrt", version_compatible=version_compatible)
    assert not hasattr(runtime_of(recipe), "engine_host_code_allowed")
    assert not hasattr(runtime_of(recipe, allow_code=False), "engine_host_code_allowed")
    assert runtime_of(recipe, allow_code=True).engine_host_code_allowed is True
