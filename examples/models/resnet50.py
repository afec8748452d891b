"""ResNet-50 at 224 x 224 (He et al., 2015), with the stride in the 3 x 3 convolution."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder
from examples.models.layers import Feature, add, classifier, conv_norm, max_pool, relu

STAGES = (
    # inner channels, blocks, stride of the first
    (64, 3, 1),
    (128, 4, 2),
    (256, 6, 2),
    (512, 3, 2),
)
EXPANSION = 4


def build(seed: int = 0, *, classes: int = 1000, fold: bool = True) -> onnx.ModelProto:
    """Image [N, 3, 224, 224] to logits [N, classes]."""
    g = GraphBuilder("resnet50", np.random.default_rng(seed))
    x = Feature(g.input("image", TensorProto.FLOAT, [BATCH, 3, 224, 224]), 3)
    x = relu(g, conv_norm(g, x, "stem", 64, 7, stride=2, pad=3, fold=fold), "stem")
    x = max_pool(g, x, "stem", 3, stride=2, pad=1)
    for stage, (inner, blocks, first_stride) in enumerate(STAGES, start=1):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            x = _bottleneck(g, x, f"layer{stage}.{block}", inner, stride, fold)
    classifier(g, x, "fc", classes, output="logits")
    g.output("logits", TensorProto.FLOAT, [BATCH, classes])
    return g.model()


def _bottleneck(
    g: GraphBuilder, x: Feature, scope: str, inner: int, stride: int, fold: bool
) -> Feature:
    """Narrow, filter, widen; the shortcut gets a convolution where the shape changes."""
    channels = inner * EXPANSION
    deep = relu(g, conv_norm(g, x, f"{scope}/conv1", inner, 1, fold=fold), f"{scope}/conv1")
    deep = conv_norm(g, deep, f"{scope}/conv2", inner, 3, stride=stride, pad=1, fold=fold)
    deep = relu(g, deep, f"{scope}/conv2")
    deep = conv_norm(g, deep, f"{scope}/conv3", channels, 1, fold=fold)
    shortcut = x
    if stride != 1 or x.channels != channels:
        shortcut = conv_norm(g, x, f"{scope}/downsample", channels, 1, stride=stride, fold=fold)
    return relu(g, add(g, deep, shortcut, scope), scope)
