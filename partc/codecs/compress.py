"""Byte compression without loss; what comes back is never larger than it should be."""

from __future__ import annotations

from typing import Any

from partc.errors import RequestError

_ZSTD_LEVEL = 1


def compress(data: bytes, name: str) -> bytes:
    """``lz4`` (a block without its size) or ``zstd`` (one frame with its size)."""
    if name == "lz4":
        import lz4.block

        packed: Any = lz4.block.compress(data, store_size=False)
        return bytes(packed)
    import zstandard

    return bytes(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data))


def decompress(data: bytes, name: str, size_bytes: int) -> bytes:
    """The inverse, of exactly ``size_bytes``.

    Raises:
        RequestError: the data are corrupt, or of another size.
    """
    try:
        plain = _lz4(data, size_bytes) if name == "lz4" else _zstd(data, size_bytes)
    except RequestError:
        raise
    except Exception as error:  # both libraries raise types of their own
        raise RequestError(f"a tensor compressed by {name} is corrupt: {error}") from error
    if len(plain) != size_bytes:
        raise RequestError(
            f"a tensor compressed by {name} has {len(plain)} bytes where {size_bytes} belong"
        )
    return plain


def _lz4(data: bytes, size_bytes: int) -> bytes:
    import lz4.block

    # An empty block still needs room for its end mark.
    plain: Any = lz4.block.decompress(data, uncompressed_size=max(size_bytes, 1))
    return bytes(plain)


def _zstd(data: bytes, size_bytes: int) -> bytes:
    import zstandard

    claimed = zstandard.get_frame_parameters(data).content_size
    if claimed != size_bytes:  # checked before anything of that size is allocated
        raise RequestError(
            f"a tensor compressed by zstd claims {claimed} bytes where {size_bytes} belong"
        )
    return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=size_bytes))
