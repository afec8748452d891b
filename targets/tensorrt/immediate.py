"""Engines built and loaded in one go, for measuring and for running without a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx

from partc.errors import MissingBackendError, TargetError
from partc.ir.engine import EngineRecipe, Gpu, ShapeRange
from partc.targets.clocks import ClockKind
from partc.targets.engines import timings_of
from partc.targets.protocol import Array, Runner
from partc.targets.tensorrt.builder import build
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.runner import EngineRunner

Shapes = dict[str, tuple[int, ...]]


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
        feeds: arrays whose shapes open dimensions take.

    Raises:
        MissingBackendError: there is no GPU here.
        TargetError: the model cannot be built, or an input is open and ``feeds`` has it not.
    """
    gpu = _gpu(library)
    shapes = shapes_of(open_inputs(_graph(model)), feeds or {})
    ranges = {name: _just(shape) for name, shape in shapes.items()}
    shaped = recipe.model_copy(update={"shapes": ranges})
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        engine = Path(folder) / "engine"
        cache = timings_of(gpu) if not library.capabilities else None
        build(library, model, shaped, gpu, engine, timing_cache=cache, detailed=detailed)
        return EngineRunner(library, engine, shaped, allow_code=shaped.version_compatible)


def open_any(library: Library, model: bytes | Path, recipe: EngineRecipe) -> Runner:
    """A runner of ``model``, whose engine is built now or, where a dimension is open, at the first
    run, which tells it.

    Raises:
        MissingBackendError: there is no GPU here.
        TargetError: the model cannot be built.
    """
    with ExitStack() as stack:
        if isinstance(model, bytes):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="partc-"))
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
        else:
            path = model
        graph = _graph(path)
        if not open_inputs(graph):
            return open_now(library, path, recipe)
        _gpu(library)
        return ShapedRunner(library, path, graph, recipe, stack.pop_all())


class ShapedRunner:
    """An engine for the shapes that it is run with, built anew when they change.

    Args:
        held: what has to be there until the end, such as the model's file.
    """

    def __init__(
        self,
        library: Library,
        model: Path,
        graph: onnx.GraphProto,
        recipe: EngineRecipe,
        held: ExitStack,
    ) -> None:
        self.clock: ClockKind = "wall"
        weights = {weight.name for weight in graph.initializer}
        self._names = tuple(value.name for value in graph.input if value.name not in weights)
        self._outputs = tuple(value.name for value in graph.output)
        self._library, self._model, self._recipe = library, model, recipe
        self._open = open_inputs(graph)
        self._held = held
        self._engine: EngineRunner | None = None
        self._shapes: Shapes = {}
        self._closed = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """Tensors it needs."""
        return self._names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Tensors it gives."""
        return self._outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Execute once; the first time, and with new shapes, after minutes of building."""
        if self._closed:
            raise TargetError("the engine is closed")
        shapes = shapes_of(self._open, feeds)
        if self._engine is None or shapes != self._shapes:
            self._let_go()
            self._engine = open_now(self._library, self._model, self._recipe, feeds=feeds)
            self._shapes = shapes
        return self._engine.run(feeds)

    def _let_go(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def close(self) -> None:
        """Free memory, engine and model."""
        self._closed = True
        self._let_go()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_inputs(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Inputs with a dimension that is not told."""
    weights = {weight.name for weight in graph.initializer}
    return tuple(
        value.name
        for value in graph.input
        if value.name not in weights
        and not all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    )


def shapes_of(names: tuple[str, ...], feeds: Mapping[str, Array]) -> Shapes:
    """The shapes that some inputs are given.

    Raises:
        TargetError: one of them is not given.
    """
    for name in names:
        if name not in feeds:
            raise TargetError(f"the segment needs tensor {name!r}, which was not given")
    return {name: tuple(feeds[name].shape) for name in names}


def _just(shape: tuple[int, ...]) -> ShapeRange:
    return ShapeRange(min=list(shape), opt=list(shape), max=list(shape))


def _graph(model: Path) -> onnx.GraphProto:
    """What the file tells of inputs and outputs.

    Raises:
        TargetError: it is no model.
    """
    try:
        return onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf has errors of several kinds
        raise TargetError(f"{model} is no ONNX model: {error}") from error


def _gpu(library: Library) -> Gpu:
    machine = machine_of(library.flavour)
    if machine.gpu is None:
        raise MissingBackendError(machine.reason)
    return machine.gpu
