"""Layers of convolutional networks, with weights that keep activations in a sane range.

A network with careless random weights is useless for comparing answers: its activations
explode, vanish, or no longer depend on the input. So every feature map carries the mean and
variance that its values are expected to have, each layer scales its weights by them, and
filters are centred (they sum to 0), which keeps the answers to different inputs apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from examples.models.graph import GraphBuilder


@dataclass(frozen=True)
class Feature:
    """A tensor [N, channels, height, width] and the distribution that its values should have."""

    tensor: str
    channels: int
    mean: float = 0.0
    variance: float = 1.0


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width from one number or two."""
    return value if isinstance(value, tuple) else (value, value)


def conv_norm(
    g: GraphBuilder,
    x: Feature,
    scope: str,
    channels: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    pad: int | tuple[int, int] = 0,
    groups: int = 1,
    fold: bool = True,
) -> Feature:
    """Convolution and batch normalisation.

    With `fold` the normalisation is folded into weight and bias, as exporters do in inference
    mode; otherwise it stays a BatchNormalization node. Both ways compute the same function.
    """
    height, width = pair(kernel)
    pad_h, pad_w = pair(pad)
    fan_in = x.channels // groups * height * width
    weight = g.rng.standard_normal(
        (channels, x.channels // groups, height, width), dtype=np.float32
    )
    if groups == 1:
        weight -= weight.mean(axis=(1, 2, 3), keepdims=True)
        weight /= math.sqrt(fan_in * x.variance)
    else:
        weight /= math.sqrt(fan_in * (x.variance + x.mean**2))

    scale = g.rng.uniform(0.8, 1.2, channels).astype(np.float32)
    shift = g.rng.normal(0, 0.1, channels).astype(np.float32)
    running_mean = g.rng.normal(0, 0.1, channels).astype(np.float32)
    running_variance = g.rng.uniform(0.8, 1.2, channels).astype(np.float32)

    prefix = scope.replace("/", ".")
    inputs = [x.tensor]
    if fold:
        factor = scale / np.sqrt(running_variance + np.float32(1e-5))
        inputs.append(g.weight(f"{prefix}.weight", weight * factor[:, None, None, None]))
        inputs.append(g.weight(f"{prefix}.bias", shift - running_mean * factor))
    else:
        inputs.append(g.weight(f"{prefix}.conv.weight", weight))
    tensor = g.op(
        "Conv",
        inputs,
        scope,
        dilations=[1, 1],
        group=groups,
        kernel_shape=[height, width],
        pads=[pad_h, pad_w, pad_h, pad_w],
        strides=[stride, stride],
    )
    if not fold:
        statistics = [
            g.weight(f"{prefix}.bn.weight", scale),
            g.weight(f"{prefix}.bn.bias", shift),
            g.weight(f"{prefix}.bn.running_mean", running_mean),
            g.weight(f"{prefix}.bn.running_var", running_variance),
        ]
        tensor = g.op("BatchNormalization", [tensor, *statistics], scope, epsilon=1e-5)
    return Feature(tensor, channels)


def conv(
    g: GraphBuilder, x: Feature, scope: str, channels: int, kernel: int, *, pad: int = 0
) -> Feature:
    """Convolution with a bias, without normalisation or activation."""
    prefix = scope.replace("/", ".")
    std = 1 / math.sqrt(x.channels * kernel**2 * (x.variance + x.mean**2))
    weight = g.normal(f"{prefix}.weight", [channels, x.channels, kernel, kernel], std)
    bias = g.normal(f"{prefix}.bias", [channels], 0.1)
    tensor = g.op(
        "Conv", [x.tensor, weight, bias], scope, kernel_shape=[kernel] * 2, pads=[pad] * 4
    )
    return Feature(tensor, channels)


def relu(g: GraphBuilder, x: Feature, scope: str) -> Feature:
    """Rectifier."""
    return _rectified(x, g.op("Relu", [x.tensor], scope))


def relu6(g: GraphBuilder, x: Feature, scope: str, bounds: tuple[str, str]) -> Feature:
    """Rectifier with a ceiling, as a Clip between two scalar initializers."""
    return _rectified(x, g.op("Clip", [x.tensor, *bounds], scope))


def add(g: GraphBuilder, a: Feature, b: Feature, scope: str) -> Feature:
    """Residual sum."""
    tensor = g.op("Add", [a.tensor, b.tensor], scope)
    return Feature(tensor, a.channels, a.mean + b.mean, a.variance + b.variance)


def concat(g: GraphBuilder, parts: Sequence[Feature], scope: str) -> Feature:
    """Concatenation along channels."""
    channels = sum(part.channels for part in parts)
    mean = sum(part.channels * part.mean for part in parts) / channels
    square = sum(part.channels * (part.variance + part.mean**2) for part in parts) / channels
    tensor = g.op("Concat", [part.tensor for part in parts], scope, axis=1)
    return Feature(tensor, channels, mean, square - mean**2)


def max_pool(
    g: GraphBuilder, x: Feature, scope: str, kernel: int, *, stride: int, pad: int = 0
) -> Feature:
    """Maximum over windows."""
    tensor = g.op(
        "MaxPool",
        [x.tensor],
        scope,
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pad] * 4,
    )
    return replace(x, tensor=tensor, mean=x.mean + math.sqrt(x.variance))


def average_pool(g: GraphBuilder, x: Feature, scope: str, kernel: int, *, pad: int = 0) -> Feature:
    """Mean over windows at stride 1; padding is not counted."""
    tensor = g.op(
        "AveragePool",
        [x.tensor],
        scope,
        kernel_shape=[kernel] * 2,
        strides=[1, 1],
        pads=[pad] * 4,
        count_include_pad=0,
    )
    return replace(x, tensor=tensor, variance=x.variance / 2)


def classifier(g: GraphBuilder, x: Feature, scope: str, classes: int, *, output: str) -> None:
    """Global average pooling and a fully connected layer into the tensor `output`, [N, classes]."""
    pooled = g.op("GlobalAveragePool", [x.tensor], f"{scope}/pool")
    flat = g.op("Flatten", [pooled], f"{scope}/flatten", axis=1)
    prefix = scope.replace("/", ".")
    weight = g.rng.standard_normal((classes, x.channels), dtype=np.float32)
    weight -= weight.mean(axis=1, keepdims=True)
    weight /= math.sqrt(x.channels * x.variance)
    g.op(
        "Gemm",
        [
            flat,
            g.weight(f"{prefix}.weight", weight),
            g.normal(f"{prefix}.bias", [classes], 0.01),
        ],
        scope,
        output=output,
        alpha=1.0,
        beta=1.0,
        transB=1,
    )


def _rectified(x: Feature, tensor: str) -> Feature:
    """The moments of max(0, v) for a normal v: the rectified Gaussian distribution."""
    std = math.sqrt(x.variance)
    below = 0.5 * (1 + math.erf(x.mean / std / math.sqrt(2)))
    density = math.exp(-((x.mean / std) ** 2) / 2) / math.sqrt(2 * math.pi)
    mean = x.mean * below + std * density
    square = (x.mean**2 + x.variance) * below + x.mean * std * density
    return replace(x, tensor=tensor, mean=mean, variance=square - mean**2)
