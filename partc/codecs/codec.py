"""Codecs by name: ``fp16``, ``int8``, ``int8-channel``, each alone or with ``+lz4``, ``+zstd``."""

from __future__ import annotations

import math

import numpy as np

from partc.codecs import quantise
from partc.codecs.compress import compress, decompress
from partc.errors import RequestError
from partc.ir.program import Array
from partc.suggest import unknown_name

NONE = "none"
_QUANTISERS = ("fp16", "int8", "int8-channel")
_COMPRESSORS = ("lz4", "zstd")

CODEC_NAMES: tuple[str, ...] = (
    *_COMPRESSORS,
    *_QUANTISERS,
    *(f"{quantiser}+{packer}" for quantiser in _QUANTISERS for packer in _COMPRESSORS),
)
"""Every codec besides `NONE`."""

LOSSY_CODECS: tuple[str, ...] = tuple(
    name for name in CODEC_NAMES if name.split("+")[0] in _QUANTISERS
)


def is_lossy(codec: str) -> bool:
    """Whether values come back changed."""
    return codec in LOSSY_CODECS


def applies_to(codec: str, dtype: str) -> bool:
    """Whether tensors of that numpy type can travel so: fewer bits are for floats only."""
    if codec == NONE:
        return True
    return dtype in quantise.FLOATS if is_lossy(codec) else dtype != "string"


def encode(array: Array, codec: str) -> tuple[bytes, str]:
    """The bytes of a tensor, and the codec they are really in.

    That is ``none`` where ``codec`` cannot hold the values (infinities, NaN) or their type.

    Raises:
        RequestError: there is no such codec.
    """
    quantiser, packer = _parts(codec)
    if not applies_to(codec, array.dtype.name):
        return _plain(array), NONE
    try:
        if quantiser == "fp16":
            data = quantise.to_half(array)
        elif quantiser:
            data = quantise.to_bytes(array, quantiser == "int8-channel")
        else:
            data = _plain(array)
    except quantise.NotEncodableError:
        return _plain(array), NONE
    return (compress(data, packer) if packer else data), codec


def decode(data: bytes, codec: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """The tensor that `encode` was given, as nearly as ``codec`` keeps it.

    Raises:
        RequestError: no such codec, or the data are not of that type and shape.
    """
    quantiser, packer = _parts(codec)
    if not applies_to(codec, dtype) or dtype == "string":
        raise RequestError(f"codec {codec!r} does not carry tensors of type {dtype}")
    kind = np.dtype(dtype)
    plain_bytes = (
        quantise.encoded_size_bytes(quantiser, shape)
        if quantiser
        else math.prod(shape) * kind.itemsize
    )
    if packer:
        data = decompress(data, packer, plain_bytes)
    if quantiser == "fp16":
        return quantise.from_half(data, kind, shape)
    if quantiser:
        return quantise.from_bytes(data, kind, shape, quantiser == "int8-channel")
    if len(data) != plain_bytes:
        raise RequestError(f"a tensor has {len(data)} bytes where {plain_bytes} belong")
    return np.frombuffer(data, dtype=kind).reshape(shape)


def _plain(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _parts(codec: str) -> tuple[str, str]:
    """(quantiser, compressor), either may be empty."""
    if codec == NONE:
        return "", ""
    if codec not in CODEC_NAMES:
        raise RequestError(unknown_name("codec", codec, (NONE, *CODEC_NAMES)))
    if codec in _COMPRESSORS:
        return "", codec
    quantiser, _, packer = codec.partition("+")
    return quantiser, packer
