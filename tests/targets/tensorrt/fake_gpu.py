"""A driver whose device memory is host memory, and an engine that ONNX Runtime executes.

They stand beside the real ones for what no test can see on a machine without a GPU: in which order
the runner copies, records, replays and frees.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx

from partc.errors import TargetError
from partc.ir.engine import EngineRecipe, Gpu
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend

Work = Callable[[], None]
REAL = json.loads((Path(__file__).parent / "api.json").read_text())["versions"]
LAYER_S = 0.5e-3


class Real:
    """Takes and gives only what the real class has in all versions."""

    known: ClassVar[str]

    def __setattr__(self, name: str, value: Any) -> None:
        for version, listing in REAL.items():
            assert name in listing["classes"][self.known], f"{self.known}.{name} ({version})"
        object.__setattr__(self, name, value)


class FakeCuda:
    """Counts what is held, and keeps the stream's order."""

    def __init__(self, *, records: bool = True) -> None:
        self.records = records
        self.memory: dict[int, Any] = {}
        self.allocations = 0
        self.calls: list[str] = []
        self.pending: list[Work] = []
        self.recording: list[Work] | None = None
        self.graphs: dict[int, list[Work]] = {}
        self.streams: set[int] = set()
        self.closed = False

    def use(self) -> None:
        self.calls.append("use")

    def allocate(self, size_bytes: int) -> int:
        buffer = (ctypes.c_ubyte * max(size_bytes, 1))()
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        self.allocations += 1
        return address

    allocate_pinned = allocate

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    free_pinned = free

    def create_stream(self) -> int:
        self.streams.add(max(self.streams, default=6) + 1)
        return max(self.streams)

    def destroy_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def enqueue(self, name: str, work: Work) -> None:
        self.calls.append(name)
        (self.pending if self.recording is None else self.recording).append(work)

    def to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        self.enqueue("to_device", lambda: self._copy(target, source, size_bytes))

    def to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        self.enqueue("to_host", lambda: self._copy(target, source, size_bytes))

    def _copy(self, target: int, source: int, size_bytes: int) -> None:
        assert target in self.memory and source in self.memory
        assert size_bytes <= min(len(self.memory[target]), len(self.memory[source]))
        ctypes.memmove(target, source, size_bytes)

    def synchronize(self, stream: int) -> None:
        for work in self.pending:
            work()
        self.pending.clear()

    def begin_capture(self, stream: int) -> None:
        self.calls.append("begin_capture")
        self.recording = []

    def end_capture(self, stream: int) -> int:
        recorded, self.recording = self.recording, None
        assert recorded is not None
        if not self.records:
            raise TargetError("an operation cannot be captured")
        self.graphs[len(self.graphs) + 1] = recorded
        return len(self.graphs)

    def launch(self, graph: int, stream: int) -> None:
        self.calls.append("launch")
        self.pending += self.graphs[graph]

    def destroy_graph(self, graph: int) -> None:
        self.graphs.pop(graph)

    def close(self) -> None:
        self.closed = True


class _Mode(Enum):
    INPUT = 0
    OUTPUT = 1


_TYPES = {1: "FLOAT", 7: "INT64", 10: "HALF"}


class FakeEngine:
    """An engine of a small model, with the calls that the runner makes."""

    def __init__(self, model: onnx.ModelProto, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.session = load_backend("onnxruntime").runner(model.SerializeToString(), RunSettings())
        graph = model.graph
        self.values = {value.name: value for value in (*graph.input, *graph.output)}
        self.inputs = [value.name for value in graph.input]
        self.num_io_tensors = len(self.values)
        self.nodes = list(graph.node)
        told = {each.key: each.value for each in model.metadata_props}
        self.ranges = json.loads(told.get("shapes", "{}"))

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.values)[index])

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self.values[name].type.tensor_type.elem_type])

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name in self.inputs else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self.values[name].type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)

    def create_engine_inspector(self) -> Any:
        layers = [{"Name": node.name, "Metadata": ""} for node in self.nodes]
        text = json.dumps({"Layers": layers, "Bindings": list(self.values)})
        return SimpleNamespace(get_engine_information=lambda format: text)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        if name in self.ranges:
            ends = self.ranges[name]
            return ends["min"], ends["opt"], ends["max"]
        shape = self.get_tensor_shape(name)
        low, high = ([each if dim == -1 else dim for dim in shape] for each in (1, 4))
        return low, low, high

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes = {name: engine.get_tensor_shape(name) for name in engine.values}
        self.addresses: dict[str, int] = {}
        self.profiler: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        ends = zip(low, shape, high, strict=True)
        if not all(least <= have <= most for least, have, most in ends):
            return False
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """All open dimensions of these models are the batch."""
        batch = self.shapes[self.engine.inputs[0]][0]
        return tuple(batch if dim == -1 else dim for dim in self.shapes[name])

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.values}
        self.engine.cuda.enqueue("execute", lambda: self._run(shapes))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]]) -> None:
        feeds = {name: self._array(name, shapes[name]).copy() for name in self.engine.inputs}
        for name, value in self.engine.session.run(feeds).items():
            self._array(name, shapes[name])[...] = value
        if self.profiler is not None:
            for node in self.engine.nodes:
                self.profiler.report_layer_time(node.name, LAYER_S * 1e3)

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        kinds = {"FLOAT": np.float32, "INT64": np.int64, "HALF": np.float16}
        dtype = np.dtype(kinds[self.engine.get_tensor_dtype(name).name])
        buffer = self.engine.cuda.memory[self.addresses[name]]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)


class FakeRuntime(Real):
    """Tells which accelerator was chosen when an engine was read, which is when it counts."""

    known = "Runtime"
    dla_core_of_reading: int | None

    def __init__(self, engine_of: Callable[[bytes], FakeEngine | None]) -> None:
        def read(data: bytes) -> FakeEngine | None:
            object.__setattr__(self, "dla_core_of_reading", getattr(self, "DLA_core", None))
            return engine_of(data)

        object.__setattr__(self, "deserialize_cuda_engine", read)


class FakeLibrary:
    """As `partc.targets.tensorrt.flavour.Library`, with a module that holds one engine, or that
    reads those of `fake_build`."""

    title = "the fake TensorRT"
    flavour = "tensorrt"
    backend = "tensorrt"
    capabilities = ()

    def __init__(self, model: onnx.ModelProto | None, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.engine = FakeEngine(model, cuda) if model is not None else None
        self.runtime = FakeRuntime(self._engine)

    def _engine(self, data: bytes) -> FakeEngine | None:
        if self.engine is None and data.startswith(_MAGIC):
            return FakeEngine(onnx.load_from_string(data.removeprefix(_MAGIC)), self.cuda)
        return self.engine

    def load(self) -> Any:
        class Logger:
            class Severity:
                ERROR, INTERNAL_ERROR = 1, 2

        return SimpleNamespace(
            ILogger=Logger,
            IProfiler=type("IProfiler", (), {}),
            LayerInformationFormat=SimpleNamespace(JSON="json"),
            Runtime=lambda logger: self.runtime,
            TensorIOMode=_Mode,
            __version__="0",
        )


_MAGIC = b"engine of a test\n"
FAKE_GPU = Gpu(
    flavour="tensorrt", version="10.3.0.30", compute_capability="8.7", platform="linux-x86_64"
)


class FakeBuilds:
    """In the place of `partc.targets.tensorrt.builder.build`; remembers what it was asked for."""

    def __init__(self) -> None:
        self.recipes: list[EngineRecipe] = []
        self.timing_caches: list[Path | None] = []

    def __call__(
        self, library: Any, model: Path, recipe: EngineRecipe, gpu: Gpu, output: Path, *,
        timing_cache: Path | None = None, progress: Any = None, detailed: bool = False,
    ) -> None:  # fmt: skip
        self.recipes.append(recipe)
        self.timing_caches.append(timing_cache)
        loaded = onnx.load(model)
        for value in loaded.graph.input:
            dims = value.type.tensor_type.shape.dim
            is_open = not all(dim.HasField("dim_value") for dim in dims)
            if is_open and value.name not in recipe.shapes:
                raise TargetError(f"the recipe names no shapes for input {value.name!r}")
        shapes = {name: each.model_dump() for name, each in recipe.shapes.items()}
        onnx.helper.set_model_props(loaded, {"shapes": json.dumps(shapes)})
        output.write_bytes(_MAGIC + loaded.SerializeToString())
