"""Arrays as the Open Inference Protocol writes them: datatype, shape, raw bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from partc.errors import RequestError
from partc.runtime.checking import shortened
from partc.runtime.segments import numpy_dtype
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]
Buffer = bytes | memoryview

_DTYPE_OF = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "string",
}
_DATATYPE_OF = {dtype: datatype for datatype, dtype in _DTYPE_OF.items()}
_LENGTH = struct.Struct("<I")
MAX_RANK = 32


def datatype_of(dtype: str) -> str:
    """The protocol's name of a manifest's element type.

    Raises:
        RequestError: the protocol has no such type.
    """
    if dtype not in _DATATYPE_OF:
        raise RequestError(
            f"element type {dtype!r} cannot be sent between hosts; "
            f"those that can: {', '.join(_DATATYPE_OF)}"
        )
    return _DATATYPE_OF[dtype]


def dtype_of(datatype: str) -> str:
    """The manifest's name of a protocol datatype.

    Raises:
        RequestError: there is no such datatype.
    """
    if datatype not in _DTYPE_OF:
        raise RequestError(unknown_name("datatype", shortened(datatype), _DTYPE_OF))
    return _DTYPE_OF[datatype]


def to_raw(array: Array) -> Buffer:
    """The elements in C order, without a copy where the array already lies so."""
    if array.dtype.kind == "O":
        return b"".join(_text_parts(array))
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: Buffer) -> Array:
    """The array over ``raw``, without a copy where the bytes are aligned; not writable.

    Raises:
        RequestError: datatype, shape and size do not fit together.
    """
    dtype = dtype_of(datatype)
    count = element_count(name, shape)
    if dtype == "string":
        return _text_array(name, shape, count, raw)
    element = numpy_dtype(dtype)
    if count * element.itemsize != len(raw):
        raise RequestError(
            f"input {shortened(name)!r} of shape {list(shape)} and datatype {datatype} has "
            f"{count * element.itemsize} bytes, but {len(raw)} were given"
        )
    if count == 0:
        return np.empty(tuple(shape), dtype=element)
    array = np.frombuffer(raw, dtype=element).reshape(tuple(shape))
    return array if array.flags.aligned else array.copy()


def element_count(name: str, shape: Sequence[int]) -> int:
    """Number of elements.

    Raises:
        RequestError: a dimension is negative, or the shape is absurd.
    """
    if len(shape) > MAX_RANK:
        raise RequestError(
            f"input {shortened(name)!r} has {len(shape)} dimensions; at most {MAX_RANK} fit"
        )
    if any(dim < 0 for dim in shape):
        raise RequestError(
            f"input {shortened(name)!r} has shape {list(shape)}, with a negative dimension"
        )
    nonzero = math.prod(dim for dim in shape if dim)
    if nonzero >= 1 << 62:
        raise RequestError(
            f"input {shortened(name)!r} has shape {list(shape)}, which no memory can hold"
        )
    return math.prod(shape)


def _text_parts(array: Array) -> list[bytes]:
    parts: list[bytes] = []
    for element in array.flat:
        encoded = element if isinstance(element, bytes) else str(element).encode()
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return parts


def _text_array(name: str, shape: Sequence[int], count: int, raw: Buffer) -> Array:
    # Each element takes at least its length field, which bounds what a shape can allocate.
    if count * _LENGTH.size > len(raw):
        raise RequestError(
            f"input {shortened(name)!r} of shape {list(shape)} has {count} texts, "
            f"but its {len(raw)} bytes hold fewer"
        )
    elements: list[str] = []
    position = 0
    for _ in range(count):
        start = position + _LENGTH.size
        if start > len(raw):
            raise RequestError(f"input {shortened(name)!r} ends within a text's length")
        (length,) = _LENGTH.unpack_from(raw, position)
        position = start + length
        if position > len(raw):
            raise RequestError(f"input {shortened(name)!r} ends within a text of {length} bytes")
        try:
            elements.append(bytes(raw[start:position]).decode())
        except UnicodeDecodeError:
            raise RequestError(
                f"input {shortened(name)!r} holds a text that is not UTF-8"
            ) from None
    if position != len(raw):
        raise RequestError(f"input {shortened(name)!r} has {len(raw) - position} bytes too many")
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array.reshape(tuple(shape))
