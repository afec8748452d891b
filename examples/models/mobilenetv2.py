"""MobileNetV2 1.0 at 224 x 224 (Sandler et al., 2018)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder
from examples.models.layers import Feature, add, classifier, conv_norm, relu6

STAGES = (
    # expansion, channels, repeats, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build(seed: int = 0, *, classes: int = 1000, fold: bool = True) -> onnx.ModelProto:
    """Image [N, 3, 224, 224] to logits [N, classes]; ReLU6 is a Clip, as exporters write it."""
    g = GraphBuilder("mobilenetv2", np.random.default_rng(seed))
    bounds = (g.weight("relu6.min", 0.0), g.weight("relu6.max", 6.0))
    x = Feature(g.input("image", TensorProto.FLOAT, [BATCH, 3, 224, 224]), 3)
    x = conv_norm(g, x, "features.0", 32, 3, stride=2, pad=1, fold=fold)
    x = relu6(g, x, "features.0", bounds)
    index = 0
    for expansion, channels, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            index += 1
            stride = first_stride if repeat == 0 else 1
            scope = f"features.{index}"
            x = _inverted_residual(g, x, scope, bounds, expansion, channels, stride, fold)
    x = conv_norm(g, x, "features.18", 1280, 1, fold=fold)
    x = relu6(g, x, "features.18", bounds)
    classifier(g, x, "classifier", classes, output="logits")
    g.output("logits", TensorProto.FLOAT, [BATCH, classes])
    return g.model()


def _inverted_residual(
    g: GraphBuilder,
    x: Feature,
    scope: str,
    bounds: tuple[str, str],
    expansion: int,
    channels: int,
    stride: int,
    fold: bool,
) -> Feature:
    """Widen, filter each channel by itself, narrow again; a shortcut where the shape stays."""
    wide = x
    if expansion != 1:
        wide = conv_norm(g, x, f"{scope}/expand", x.channels * expansion, 1, fold=fold)
        wide = relu6(g, wide, f"{scope}/expand", bounds)
    deep = conv_norm(
        g,
        wide,
        f"{scope}/depthwise",
        wide.channels,
        3,
        stride=stride,
        pad=1,
        groups=wide.channels,
        fold=fold,
    )
    deep = relu6(g, deep, f"{scope}/depthwise", bounds)
    narrow = conv_norm(g, deep, f"{scope}/project", channels, 1, fold=fold)
    if stride == 1 and x.channels == channels:
        return add(g, x, narrow, scope)
    return narrow
