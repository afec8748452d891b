"""Executes a segment with OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx

from partc.errors import TargetError
from partc.targets.clocks import ClockKind
from partc.targets.openvino.compiling import compile_model, read_model
from partc.targets.openvino.library import openvino, sentence
from partc.targets.protocol import Array, RunSettings

_TAKEN = frozenset(
    (
        *("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)


class OpenVinoRunner:
    """A loaded segment. ``run`` takes and gives arrays by tensor name, one request at a time.

    Attributes:
        clock: OpenVINO computes in threads of its own.
    """

    clock: ClockKind = "process"

    def __init__(self, model: bytes | Path, settings: RunSettings) -> None:
        self._load(compile_model(read_model(model), settings), _signature_of(model))

    @classmethod
    def of(cls, compiled: Any, model: onnx.ModelProto) -> OpenVinoRunner:
        """A runner of what was compiled already from ``model``."""
        runner = cls.__new__(cls)
        runner._load(compiled, model)
        return runner

    def _load(self, compiled: Any, model: onnx.ModelProto) -> None:
        weights = {w.name for w in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in weights]
        self._types = {i.name: _array_type(i) for i in (*inputs, *model.graph.output)}
        self._inputs = {i.name: _position(compiled.inputs, i.name) for i in inputs}
        self._outputs = {o.name: _position(compiled.outputs, o.name) for o in model.graph.output}
        self._request: Any = compiled.create_infer_request()

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
        given = {name: self._checked(name, feeds) for name in self._inputs}
        try:
            self._request.infer(
                {
                    position: openvino().Tensor(given[name])
                    for name, position in self._inputs.items()
                    if position is not None
                }
            )
            # The request writes the next answer into the same memory.
            return {name: self._answer(name) for name in self._outputs}
        except RuntimeError as error:
            raise TargetError(f"OpenVINO failed: {sentence(error)}") from error

    def kernel_times(self) -> dict[str, float]:
        """Of the last run of a model that counts: kernel -> seconds."""
        times: dict[str, float] = {}
        for kernel in self._request.get_profiling_info():
            seconds = kernel.real_time.total_seconds()
            times[kernel.node_name] = times.get(kernel.node_name, 0.0) + seconds
        return times

    def close(self) -> None:
        """Free the compiled model."""
        self._request = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _checked(self, name: str, feeds: Mapping[str, Array]) -> Array:
        if name not in feeds:
            raise TargetError(f"the segment needs tensor {name!r}, which was not given")
        array = np.asarray(feeds[name])
        wanted = self._types[name]
        if array.dtype != wanted:
            raise TargetError(
                f"OpenVINO failed: tensor {name!r} is of type {array.dtype}, and the segment "
                f"takes {wanted}"
            )
        # OpenVINO reads no arrays with gaps, and writes to none that it is given.
        return np.array(array, order="C", copy=not array.flags.c_contiguous or None)

    def _answer(self, name: str) -> Array:
        position = self._outputs[name]
        if position is None:
            raise TargetError(f"OpenVINO lost the output {name!r} on the way; use another target")
        data: Array = self._request.get_output_tensor(position).data
        return np.array(data, dtype=self._types[name])


def _signature_of(model: bytes | Path) -> onnx.ModelProto:
    """The model with the names and types of its inputs and outputs; weights stay in their files."""
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(model, load_external_data=False)


def _array_type(info: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The numpy type of a tensor at the boundary.

    Raises:
        TargetError: OpenVINO takes and gives no such tensors.
    """
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise TargetError(
            f"OpenVINO takes and gives arrays only, and {info.name!r} is a "
            f"{(kind or 'value of unknown type').removesuffix('_type')}; keep it inside of one "
            "segment or on another target"
        )
    number = info.type.tensor_type.elem_type
    if number == onnx.TensorProto.STRING:
        name = "string"
    else:
        name = onnx.helper.tensor_dtype_to_np_dtype(number).name
    if name not in _TAKEN:
        raise TargetError(
            f"OpenVINO takes and gives no tensors of type {name}, as {info.name!r} is; pin the "
            "ops at that boundary to another host"
        )
    return np.dtype(name)


def _position(ports: Any, name: str) -> int | None:
    """Where the port of a tensor is; None where OpenVINO has dropped it."""
    return next((place for place, port in enumerate(ports) if name in port.get_names()), None)
