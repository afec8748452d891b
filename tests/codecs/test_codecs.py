"""Codecs: what comes back, how exactly, and what hostile bytes lead to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partc.codecs import CODEC_NAMES, LOSSY_CODECS, NONE, applies_to, decode, encode
from partc.errors import RequestError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-1e4, 1e4, width=32))


@given(array=FLOATS, codec=st.sampled_from([NONE, *CODEC_NAMES]))
def test_shape_and_type_come_back(array: np.ndarray, codec: str) -> None:
    data, used = encode(array, codec)
    back = decode(data, used, "float32", array.shape)
    assert back.dtype == array.dtype
    assert back.shape == array.shape


@given(array=FLOATS, codec=st.sampled_from([NONE, "lz4", "zstd"]))
def test_lossless_codecs_lose_nothing(array: np.ndarray, codec: str) -> None:
    data, used = encode(array, codec)
    assert used == codec
    np.testing.assert_array_equal(decode(data, used, "float32", array.shape), array)


@given(array=FLOATS, codec=st.sampled_from([c for c in LOSSY_CODECS if c.startswith("int8")]))
def test_eight_bits_are_off_by_half_a_step_at_most(array: np.ndarray, codec: str) -> None:
    data, used = encode(array, codec)
    assert used == codec
    if not array.size:
        return
    step = (float(array.max()) - float(array.min())) / 255
    error = np.abs(decode(data, used, "float32", array.shape) - array).max()
    assert error <= step / 2 + 1e-6 * max(1.0, float(np.abs(array).max()))


@given(array=FLOATS)
def test_half_floats_keep_eleven_bits(array: np.ndarray) -> None:
    data, used = encode(array, "fp16")
    back = decode(data, used, "float32", array.shape)
    np.testing.assert_allclose(back.astype(np.float32), array, rtol=2**-11, atol=6e-8)


def test_per_channel_ranges_keep_a_small_channel_beside_a_large_one() -> None:
    array = np.zeros((1, 2, 8, 8), np.float32)
    array[0, 0] = np.linspace(0, 1000, 64).reshape(8, 8)
    array[0, 1] = np.linspace(0, 0.1, 64).reshape(8, 8)
    errors = {}
    for codec in ("int8", "int8-channel"):
        data, used = encode(array, codec)
        back = decode(data, used, "float32", array.shape).astype(np.float32)
        errors[codec] = np.abs(back - array)[0, 1].max()
    assert errors["int8-channel"] < 0.001 < errors["int8"]


def test_sparse_activations_compress() -> None:
    generator = np.random.default_rng(0)
    array = np.maximum(generator.standard_normal((1, 32, 28, 28)), 0.5).astype(np.float32) - 0.5
    raw = array.nbytes
    assert len(encode(array, "fp16")[0]) == raw // 2
    assert len(encode(array, "int8")[0]) < raw / 3.9
    assert len(encode(array, "int8+zstd")[0]) < len(encode(array, "int8")[0]) / 1.5


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_has_no_encoding_travels_as_it_is(codec: str, value: float) -> None:
    array = np.array([[1.0, value]], np.float32)
    data, used = encode(array, codec)
    assert used == (NONE if codec in LOSSY_CODECS else codec)
    np.testing.assert_array_equal(decode(data, used, "float32", array.shape), array)


def test_too_large_for_half_becomes_the_largest_half() -> None:
    data, used = encode(np.array([1e9, -1e9], np.float32), "fp16")
    np.testing.assert_array_equal(decode(data, used, "float32", (2,)), [65504, -65504])


@pytest.mark.parametrize("codec", LOSSY_CODECS)
def test_integers_are_never_rounded(codec: str) -> None:
    array = np.arange(10, dtype=np.int64)
    assert not applies_to(codec, "int64")
    data, used = encode(array, codec)
    assert used == NONE
    np.testing.assert_array_equal(decode(data, used, "int64", array.shape), array)


@given(data=st.binary(max_size=64), codec=st.sampled_from([NONE, *CODEC_NAMES]), shape=SHAPES)
def test_hostile_bytes_end_in_a_sentence(data: bytes, codec: str, shape: tuple[int, ...]) -> None:
    try:
        back = decode(data, codec, "float32", shape)
    except RequestError as error:
        assert str(error)
    else:
        assert back.shape == shape


def test_a_bomb_is_refused_before_it_grows() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(RequestError, match="claims"):
        decode(bomb, "zstd", "float32", (4,))


def test_an_unknown_codec_is_answered_with_the_closest() -> None:
    with pytest.raises(RequestError, match="Did you mean 'int8'"):
        encode(np.zeros(1, np.float32), "int-8")


def test_large_values_are_no_cause_for_warnings() -> None:
    """A mask of an attention holds the lowest float many times over."""
    lowest = np.full((1, 1, 64, 64), np.finfo(np.float32).min, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for codec in CODEC_NAMES:
            data, used = encode(lowest, codec)
            back = decode(data, used, "float32", lowest.shape)
            assert float(back.astype(np.float64).max()) <= -65504
