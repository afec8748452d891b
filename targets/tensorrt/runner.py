"""Runs an engine on the GPU."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from partc.errors import MissingBackendError, TargetError
from partc.ir.engine import EngineRecipe
from partc.targets.clocks import ClockKind
from partc.targets.protocol import Array
from partc.targets.tensorrt.cuda import Cuda
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.log import make_logger, sentence

_TYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT32": "int32",
    "INT64": "int64", "INT8": "int8", "UINT8": "uint8", "BOOL": "bool",
}  # fmt: skip
_PLAIN_RUNS_BEFORE_GRAPH = 1


@dataclass
class _Tensor:
    """One input or output with its memory on both sides, which later runs use again."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    capacity_bytes: int = 0
    device: int = 0
    pinned: int = 0

    @property
    def is_open(self) -> bool:
        return -1 in self.shape

    def staged(self, shape: tuple[int, ...]) -> Array:
        """The pinned memory as an array."""
        count = int(np.prod(shape, dtype=np.int64))
        size_bytes = count * self.dtype.itemsize
        raw = (ctypes.c_ubyte * size_bytes).from_address(self.pinned)
        array: Array = np.frombuffer(memoryview(raw), dtype=self.dtype, count=count).reshape(shape)
        return array


class EngineRunner:
    """A loaded engine. ``run`` takes and gives arrays by tensor name.

    Copies and the engine's work are put in one stream, through pinned memory, and waited for once.
    Where shapes are fixed, all of it is one CUDA graph from the second run on.

    Args:
        allow_code: run the machine code that the engine may carry; without it, an engine that does
            is refused.

    Raises:
        MissingBackendError: there is no GPU that runs it.
        TargetError: the engine does not load.
    """

    def __init__(
        self,
        library: Library,
        engine: Path | bytes,
        recipe: EngineRecipe,
        cuda: Cuda | None = None,
        *,
        allow_code: bool = False,
    ) -> None:
        if cuda is None:
            machine = machine_of(library.flavour)
            if machine.gpu is None:  # Without a GPU, some versions crash on what follows.
                raise MissingBackendError(machine.reason)
            cuda = Cuda()
        self.clock: ClockKind = "wall"
        self._title = library.title
        self._allow_code = allow_code
        self._cuda = cuda
        self._lock = threading.Lock()
        self._closed = False
        self._graph = 0
        self._plain_runs = 0
        self._stream = 0
        self._profiler: Any = None
        self._layers: list[tuple[str, float]] = []
        self._inputs: dict[str, _Tensor] = {}
        self._outputs: dict[str, _Tensor] = {}
        trt = library.load()
        self._trt = trt
        self._logger = make_logger(trt)
        try:
            self._load(trt, engine if isinstance(engine, bytes) else engine.read_bytes(), recipe)
            self._stream = cuda.create_stream()
        except BaseException:
            self.close()
            raise

    def _load(self, trt: Any, data: bytes, recipe: EngineRecipe) -> None:
        self._runtime = trt.Runtime(self._logger)
        if recipe.dla_core is not None:
            self._runtime.DLA_core = recipe.dla_core
        if self._allow_code:
            # An engine for other versions carries a small runtime of its own version as code.
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise TargetError(
                f"{self._title} cannot load the engine: {sentence(self._logger.errors)}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TargetError(
                f"{self._title} has no room to run the engine: {sentence(self._logger.errors)}"
            )
        loaded = self._engine
        for index in range(loaded.num_io_tensors):
            name = loaded.get_tensor_name(index)
            kind = loaded.get_tensor_dtype(name).name
            if kind not in _TYPES:
                raise TargetError(f"tensor {name!r} of the engine has type {kind}")
            is_input = loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            tensors = self._inputs if is_input else self._outputs
            shape = tuple(loaded.get_tensor_shape(name))
            tensors[name] = _Tensor(name, _numpy_type(_TYPES[kind]), shape)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Tensors it needs."""
        return tuple(self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Tensors it gives."""
        return tuple(self._outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Execute once; extra entries of ``feeds`` are ignored."""
        arrays = {name: self._checked(tensor, feeds) for name, tensor in self._inputs.items()}
        with self._lock:
            if self._closed:
                raise TargetError("the engine is closed")
            self._cuda.use()
            shapes = self._prepared(arrays)
            for name, array in arrays.items():
                self._inputs[name].staged(array.shape)[...] = array
            self._execute(arrays, shapes)
            return {
                name: tensor.staged(shapes[name]).copy() for name, tensor in self._outputs.items()
            }

    def _checked(self, tensor: _Tensor, feeds: Mapping[str, Array]) -> Array:
        if tensor.name not in feeds:
            raise TargetError(f"the segment needs tensor {tensor.name!r}, which was not given")
        array = np.asarray(feeds[tensor.name])
        if array.dtype != tensor.dtype:
            raise TargetError(
                f"tensor {tensor.name!r} is {array.dtype} and the engine takes {tensor.dtype}"
            )
        fits = len(array.shape) == len(tensor.shape) and all(
            want in (-1, have) for have, want in zip(array.shape, tensor.shape, strict=True)
        )
        if not fits:
            raise TargetError(
                f"tensor {tensor.name!r} has shape {array.shape} and the engine takes "
                f"{tensor.shape}"
            )
        return array

    def _prepared(self, arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Shapes told, memory there; the outputs' shapes."""
        for name, array in arrays.items():
            tensor = self._inputs[name]
            if tensor.is_open and not self._context.set_input_shape(name, array.shape):
                low, _, high = self._engine.get_tensor_profile_shape(name, 0)
                raise TargetError(
                    f"tensor {name!r} has shape {array.shape} and the engine takes "
                    f"{tuple(low)} to {tuple(high)}; compile with wider shapes in "
                    "[hosts.NAME.engine]"
                )
            self._reserve(tensor, array.nbytes)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if any(dim < 0 for dim in shape):
                raise TargetError(
                    f"the shape of output {name!r} depends on values, which engines of partc "
                    "cannot give; pin the op that makes it to another host"
                )
            shapes[name] = shape
            count = int(np.prod(shape, dtype=np.int64))
            self._reserve(tensor, count * tensor.dtype.itemsize)
        return shapes

    def _reserve(self, tensor: _Tensor, size_bytes: int) -> None:
        if tensor.device and size_bytes <= tensor.capacity_bytes:
            return
        self._release(tensor)
        self._drop_graph()
        tensor.device = self._cuda.allocate(size_bytes)
        tensor.pinned = self._cuda.allocate_pinned(size_bytes)
        tensor.capacity_bytes = size_bytes
        self._context.set_tensor_address(tensor.name, tensor.device)

    def _execute(self, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        is_fixed = not any(tensor.is_open for tensor in self._inputs.values())
        if not self._graph and is_fixed and self._plain_runs == _PLAIN_RUNS_BEFORE_GRAPH:
            self._record(arrays, shapes)
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue(arrays, shapes)
            self._plain_runs += 1
        self._cuda.synchronize(self._stream)

    def _record(self, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Some engines cannot be recorded; they go on as before."""
        self._plain_runs += 1
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue(arrays, shapes)
        except TargetError:
            with suppress(TargetError):  # ends the recording, which is of no use
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
            return
        with suppress(TargetError):
            self._graph = self._cuda.end_capture(self._stream)

    def _enqueue(self, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, array in arrays.items():
            tensor = self._inputs[name]
            self._cuda.to_device(tensor.device, tensor.pinned, array.nbytes, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise TargetError(f"{self._title} failed: {sentence(self._logger.errors)}")
        for name, shape in shapes.items():
            tensor = self._outputs[name]
            size_bytes = int(np.prod(shape, dtype=np.int64)) * tensor.dtype.itemsize
            self._cuda.to_host(tensor.pinned, tensor.device, size_bytes, self._stream)

    def profiled_run(self, feeds: Mapping[str, Array]) -> list[tuple[str, float]]:
        """Execute once without a graph; name and seconds of each layer."""
        arrays = {name: self._checked(tensor, feeds) for name, tensor in self._inputs.items()}
        with self._lock:
            if self._closed:
                raise TargetError("the engine is closed")
            self._cuda.use()
            shapes = self._prepared(arrays)
            if self._profiler is None:  # one for good: a context keeps all that it was ever given
                self._profiler = _make_profiler(self._trt, self._layers)
                self._context.profiler = self._profiler
            self._layers.clear()
            for name, array in arrays.items():
                self._inputs[name].staged(array.shape)[...] = array
            self._enqueue(arrays, shapes)
            self._cuda.synchronize(self._stream)
            return list(self._layers)

    def layer_information(self) -> str:
        """The engine inspector's JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def _drop_graph(self) -> None:
        if self._graph:
            self._cuda.destroy_graph(self._graph)
        self._graph, self._plain_runs = 0, 0

    def _release(self, tensor: _Tensor) -> None:
        if tensor.device:
            self._cuda.free(tensor.device)
        if tensor.pinned:
            self._cuda.free_pinned(tensor.pinned)
        tensor.device = tensor.pinned = tensor.capacity_bytes = 0

    def close(self) -> None:
        """Free memory and engine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._cuda.use()
            self._drop_graph()
            for tensor in (*self._inputs.values(), *self._outputs.values()):
                self._release(tensor)
            if self._stream:
                self._cuda.destroy_stream(self._stream)
            # In this order: a context needs its engine, and an engine its runtime.
            self._context = self._engine = self._runtime = None
            self._cuda.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _make_profiler(trt: Any, layers: list[tuple[str, float]]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]
        """Keeps what it is told."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            layers.append((layer_name, ms * 1e-3))

    return Profiler()


def _numpy_type(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return extended
    return np.dtype(name)
