"""A driver whose device memory is host memory, and an engine that ONNX Runtime executes.

They stand beside the real ones for what no test can see on a machine without a GPU: in which order
the runner copies, records, replays and frees.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from partc.errors import TargetError
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend

Work = Callable[[], None]


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
        self.streams.add(7)
        return 7

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

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.values)[index])

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self.values[name].type.tensor_type.elem_type])

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name in self.inputs else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self.values[name].type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
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

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        _, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if any(have > most for have, most in zip(shape, high, strict=True)):
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

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        kinds = {"FLOAT": np.float32, "INT64": np.int64, "HALF": np.float16}
        dtype = np.dtype(kinds[self.engine.get_tensor_dtype(name).name])
        buffer = self.engine.cuda.memory[self.addresses[name]]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)


class FakeLibrary:
    """As `partc.targets.tensorrt.flavour.Library`, with a module that holds one engine."""

    title = "the fake TensorRT"
    flavour = "tensorrt"

    def __init__(self, model: onnx.ModelProto | None, cuda: FakeCuda) -> None:
        self.engine = FakeEngine(model, cuda) if model is not None else None

    def load(self) -> Any:
        class Logger:
            class Severity:
                ERROR, INTERNAL_ERROR = 1, 2

        runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: self.engine)
        return SimpleNamespace(
            ILogger=Logger, Runtime=lambda logger: runtime, TensorIOMode=_Mode, __version__="0"
        )
