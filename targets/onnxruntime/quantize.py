"""Writes 8-bit quantisation into a graph, by ONNX Runtime's own quantiser."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError
from partc.targets.onnxruntime.runner import first_line
from partc.targets.protocol import Array

QUANTISED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What gains by it; everything between stays in float32."""


def quantised(model: onnx.ModelProto, samples: Iterable[Mapping[str, Array]]) -> onnx.ModelProto:
    """A copy with QuantizeLinear and DequantizeLinear around convolutions and products.

    Symmetric, weights per channel, biases left in float32: what TensorRT takes as it is.

    Args:
        samples: inputs from which the ranges of activations are taken.

    Raises:
        TargetError: the quantiser refuses the model, or it does not run on a sample.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    given = list(samples)
    if not any(node.op_type in QUANTISED_OPS for node in model.graph.node):
        return model
    with tempfile.TemporaryDirectory(prefix="partc-") as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        try:
            quantize_static(
                str(source),
                str(target),
                _Reader(given),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED_OPS),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                },
            )
        except Exception as error:  # the quantiser raises whatever goes wrong inside
            raise TargetError(
                f"ONNX Runtime's quantiser refuses the segment: {first_line(error)}"
            ) from error
        result = onnx.load(target)
    result.producer_name, result.producer_version = model.producer_name, ""
    return result


class _Reader:
    """Hands out samples, as the quantiser asks for them."""

    def __init__(self, samples: list[Mapping[str, Array]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> dict[str, Array] | None:
        found = next(self._samples, None)
        return None if found is None else dict(found)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, Any]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends and prints; a user has asked for neither."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
