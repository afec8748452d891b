"""What codecs do to the tensors of a program, as measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CodecCost:
    """One codec, over all tensors it was measured on, on this machine.

    Attributes:
        encode_s_per_byte, decode_s_per_byte: seconds per byte of the tensor before encoding.
    """

    encode_s_per_byte: float
    decode_s_per_byte: float


@dataclass(frozen=True)
class CodecFactor:
    """How many times longer one codec takes on a node than on this machine."""

    encode: float
    decode: float


@dataclass(frozen=True)
class CodecTable:
    """Measured on the activations of the sample input.

    Attributes:
        costs: codec -> its speed.
        ratios: tensor -> codec -> encoded bytes per byte; a codec that does not apply to a tensor
            is absent.
        factors: host -> codec -> how its speed differs from `costs`; for hosts whose node was
            asked.
    """

    costs: Mapping[str, CodecCost]
    ratios: Mapping[str, Mapping[str, float]]
    factors: Mapping[str, Mapping[str, CodecFactor]] = field(default_factory=dict)
