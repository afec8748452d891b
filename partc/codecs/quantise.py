"""Fewer bits for each number: half floats, and 8-bit integers with a range."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from partc.errors import RequestError
from partc.ir.program import Array

FLOATS = frozenset({"float32", "float64"})

_LARGEST_HALF = 65504.0
_LEVELS = 255.0
_RANGE_DTYPE = np.dtype("<f4")  # of a range's low end and step


class NotEncodableError(Exception):
    """The values (infinities, NaN) have no encoding; they travel as they are."""


def to_half(array: Array) -> bytes:
    """Half floats, little-endian; what is too large becomes the largest half float."""
    values = array.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # the sum is only a quick first look
        total = float(values.sum())
    if not math.isfinite(total) and not np.isfinite(values).all():
        raise NotEncodableError
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF).astype("<f2").tobytes()


def from_half(data: bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
    """The inverse of `to_half`."""
    return _exactly(data, np.dtype("<f2"), math.prod(shape)).astype(dtype).reshape(shape)


def to_bytes(array: Array, per_channel: bool) -> bytes:
    """8-bit integers over the range of the values: of all of them, or of each channel.

    Layout: for each channel its low end, for each channel its step (both float32), then one byte
    for each value.
    """
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not values.size:
        return b""
    rows = _rows(values.shape, per_channel)
    grid = values.reshape(rows)
    low = grid.min(axis=(0, 2), keepdims=True)
    high = grid.max(axis=(0, 2), keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        step = (high - low) / np.float32(_LEVELS)
    if not np.isfinite(step).all():
        raise NotEncodableError
    step[step == 0] = 1.0
    levels = grid - low
    levels *= np.float32(1.0) / step
    np.rint(levels, out=levels)
    np.clip(levels, 0, _LEVELS, out=levels)
    header = low.astype(_RANGE_DTYPE).tobytes() + step.astype(_RANGE_DTYPE).tobytes()
    return bytes(header + levels.astype(np.uint8).tobytes())


def from_bytes(
    data: bytes, dtype: np.dtype[np.generic], shape: tuple[int, ...], per_channel: bool
) -> Array:
    """The inverse of `to_bytes`, up to half a step."""
    if not math.prod(shape):
        return _exactly(data, np.dtype(np.uint8), 0).astype(dtype).reshape(shape)
    rows = _rows(shape, per_channel)
    channels = rows[1]
    header_bytes = 2 * channels * _RANGE_DTYPE.itemsize
    ranges = _exactly(data[:header_bytes], _RANGE_DTYPE, 2 * channels)
    levels = _exactly(data[header_bytes:], np.dtype(np.uint8), math.prod(shape))
    low = ranges[:channels].reshape(1, channels, 1).astype(np.float32)
    step = ranges[channels:].reshape(1, channels, 1).astype(np.float32)
    values: npt.NDArray[np.float32] = levels.reshape(rows).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile range may be anything
        values *= step
        values += low
    return values.astype(dtype, copy=False).reshape(shape)


def encoded_size_bytes(quantiser: str, shape: tuple[int, ...]) -> int:
    """Bytes before compression; for ``fp16``, ``int8`` and ``int8-channel``."""
    count = math.prod(shape)
    if quantiser == "fp16":
        return 2 * count
    if not count:
        return 0
    return count + 2 * _rows(shape, quantiser == "int8-channel")[1] * _RANGE_DTYPE.itemsize


def _rows(shape: tuple[int, ...], per_channel: bool) -> tuple[int, int, int]:
    """(before, channels, after): axis 1 of images, the last axis of everything else."""
    if not per_channel or not shape:
        return 1, 1, math.prod(shape)
    axis = 1 if len(shape) >= 4 else len(shape) - 1
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _exactly(data: bytes, dtype: np.dtype[np.generic], count: int) -> Array:
    if len(data) != count * dtype.itemsize:
        raise RequestError(
            f"an encoded tensor has {len(data)} bytes where {count * dtype.itemsize} belong"
        )
    return np.frombuffer(data, dtype=dtype)
