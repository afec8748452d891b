"""An engine built and loaded in one go, for measuring and for running without a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx

from partc.errors import MissingBackendError
from partc.ir.engine import EngineRecipe, ShapeRange
from partc.targets.protocol import Array
from partc.targets.tensorrt.builder import build
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.runner import EngineRunner


def open_now(
    library: Library,
    model: Path,
    recipe: EngineRecipe,
    *,
    feeds: Mapping[str, Array] | None = None,
    detailed: bool = False,
) -> EngineRunner:
    """Build ``model`` for the GPU that is here, and load it.

    Args:
        feeds: arrays whose shapes open dimensions take; 1 where they are not given.

    Raises:
        MissingBackendError: there is no GPU here.
        TargetError: the model cannot be built.
    """
    machine = machine_of(library.flavour)
    if machine.gpu is None:
        raise MissingBackendError(machine.reason)
    shaped = recipe.model_copy(update={"shapes": _fixed_shapes(model, feeds or {})})
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        engine = Path(folder) / "engine"
        build(library, model, shaped, machine.gpu, engine, detailed=detailed)
        return EngineRunner(library, engine, shaped, allow_code=shaped.version_compatible)


def _fixed_shapes(model: Path, feeds: Mapping[str, Array]) -> dict[str, ShapeRange]:
    shapes: dict[str, ShapeRange] = {}
    graph = onnx.load(model, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or all(dim.HasField("dim_value") for dim in dims):
            continue
        shape = [dim.dim_value or 1 for dim in dims]
        if value.name in feeds:
            shape = list(feeds[value.name].shape)
        shapes[value.name] = ShapeRange(min=shape, opt=shape, max=shape)
    return shapes
