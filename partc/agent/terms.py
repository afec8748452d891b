"""What this machine does with each byte of a message, measured on the runtime's own code."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from partc.codecs import CODEC_NAMES, decode, encode
from partc.runtime.models import ModelRequest

Buffer = bytes | memoryview

_SMALL_ELEMENTS, _LARGE_ELEMENTS = 1 << 8, 1 << 19
_ROUNDS = 7


@dataclass(frozen=True)
class MessageTerms:
    """Seconds for each byte of a tensor, before encoding.

    Attributes:
        write_s_per_byte, read_s_per_byte: from tensor to message, and back.
        encode_s_per_byte, decode_s_per_byte: what each codec adds to that.
    """

    write_s_per_byte: float
    read_s_per_byte: float
    encode_s_per_byte: dict[str, float]
    decode_s_per_byte: dict[str, float]


def measure_terms(codecs: tuple[str, ...] = CODEC_NAMES) -> MessageTerms:
    """Measure them here and now, on float32 tensors; takes about a second."""
    from partc.runtime.wire.messages import decode_request, encode_request

    def written(elements: int) -> bytes:
        return encode_request(ModelRequest("model", "id", {"x": _sample(elements)}))

    messages = {n: written(n) for n in (_SMALL_ELEMENTS, _LARGE_ELEMENTS)}
    encodings: dict[str, float] = {}
    decodings: dict[str, float] = {}
    for codec in codecs:
        packed = {n: encode(_sample(n), codec) for n in messages}

        def encoded(elements: int, codec: str = codec) -> object:
            return encode(_sample(elements), codec)

        def decoded(elements: int, packed: Mapping[int, tuple[Buffer, str]] = packed) -> object:
            data, used = packed[elements]
            return decode(bytes(data), used, "float32", (elements,))

        encodings[codec] = _per_byte(encoded)
        decodings[codec] = _per_byte(decoded)
    return MessageTerms(
        write_s_per_byte=_per_byte(written),
        read_s_per_byte=_per_byte(lambda n: decode_request(messages[n])),
        encode_s_per_byte=encodings,
        decode_s_per_byte=decodings,
    )


def _per_byte(work: Callable[[int], object]) -> float:
    """The slope over two sizes, of medians."""
    medians: list[float] = []
    for elements in (_SMALL_ELEMENTS, _LARGE_ELEMENTS):
        samples: list[float] = []
        for _ in range(_ROUNDS + 1):
            started_s = time.perf_counter()
            work(elements)
            samples.append(time.perf_counter() - started_s)
        medians.append(statistics.median(samples[1:]))
    extra_bytes = 4 * (_LARGE_ELEMENTS - _SMALL_ELEMENTS)
    return max(0.0, medians[1] - medians[0]) / extra_bytes


_SAMPLES: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}


def _sample(elements: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """As behind a ReLU: half of it is zero."""
    if elements not in _SAMPLES:
        drawn = np.random.default_rng(0).standard_normal(elements).astype(np.float32)
        _SAMPLES[elements] = np.maximum(drawn, 0)
    return _SAMPLES[elements]
