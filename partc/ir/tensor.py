"""What is known of a tensor: its type, its shape as written, its shape for planning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from partc.errors import ModelError

Dim = int | str | None
"""A dimension as the model writes it: a number, a symbol such as ``"N"``, or nothing."""

TensorKind = Literal["tensor", "sequence", "optional", "map", "sparse_tensor"]

_BITS: dict[str, int] = {
    "bfloat16": 16,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0": 8,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1": 4,
    "int2": 2,
    "uint2": 2,
}


def element_bits(dtype: str) -> int:
    """Bits of one element of ``dtype`` (a numpy or ml_dtypes name; ``"string"`` counts as 64)."""
    if dtype in _BITS:
        return _BITS[dtype]
    if dtype == "string":
        return 64
    return np.dtype(dtype).itemsize * 8


# numpy's own types: backends neither take nor give arrays of others (bfloat16, 4 and 8-bit floats).
_CAN_CROSS = frozenset(
    [
        "bool",
        "string",
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ]
)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the graph.

    Attributes:
        dtype: numpy name of the element type (``"float32"``), or ``"string"``; empty if unknown.
        shape: as the model writes it; None when even the rank is unknown.
        planned_shape: the concrete shape that sizes and costs are taken for; None until known.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    planned_shape: tuple[int, ...] | None = None
    kind: TensorKind = "tensor"

    @property
    def can_cross(self) -> bool:
        """Whether it can leave the kernel graph of one segment: as an array between hosts."""
        return self.kind == "tensor" and (not self.dtype or self.dtype in _CAN_CROSS)

    @property
    def is_sized(self) -> bool:
        """Whether the size in bytes is known."""
        return self.kind == "tensor" and bool(self.dtype) and self.planned_shape is not None

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor at its planned shape.

        Raises:
            ModelError: the size is not known; it is never taken as 0.
        """
        if not self.is_sized or self.planned_shape is None:
            raise ModelError(
                f"the size of tensor {self.name!r} is unknown; give a sample input with --input "
                "or bind the dynamic dimensions with --shape"
            )
        return (math.prod(self.planned_shape) * element_bits(self.dtype) + 7) // 8
