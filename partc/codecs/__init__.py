"""How a cut tensor travels: as it is, in fewer bits, compressed, or both."""

from partc.codecs.codec import (
    CODEC_NAMES,
    LOSSY_CODECS,
    NONE,
    applies_to,
    decode,
    encode,
    is_lossy,
)

__all__ = ["CODEC_NAMES", "LOSSY_CODECS", "NONE", "applies_to", "decode", "encode", "is_lossy"]
