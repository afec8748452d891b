"""InceptionV4 at 299 x 299 (Szegedy et al., 2016): stem, 4 x A, reduction, 7 x B, reduction, 3 x C.

By default every convolution keeps its BatchNormalization node, as exporters leave it when they
do not optimise: 149 x (Conv, BatchNormalization, Relu), 493 ops in all. With `fold` there are 344.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder
from examples.models.layers import (
    Feature,
    average_pool,
    classifier,
    concat,
    conv_norm,
    max_pool,
    relu,
)


def build(seed: int = 0, *, classes: int = 1000, fold: bool = False) -> onnx.ModelProto:
    """Image [N, 3, 299, 299] to logits [N, classes]."""
    g = GraphBuilder("inceptionv4", np.random.default_rng(seed))
    image = g.input("image", TensorProto.FLOAT, [BATCH, 3, 299, 299])
    net = _Layers(g, fold)
    x = _stem(net, Feature(image, 3))
    for i in range(4):
        x = _inception_a(net, x, f"a{i}")
    x = _reduction_a(net, x, "reduction_a")
    for i in range(7):
        x = _inception_b(net, x, f"b{i}")
    x = _reduction_b(net, x, "reduction_b")
    for i in range(3):
        x = _inception_c(net, x, f"c{i}")
    classifier(g, x, "classifier", classes, output="logits")
    g.output("logits", TensorProto.FLOAT, [BATCH, classes])
    return g.model()


@dataclass(frozen=True)
class _Layers:
    g: GraphBuilder
    fold: bool

    def conv(
        self,
        x: Feature,
        scope: str,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        valid: bool = False,
    ) -> Feature:
        """Convolution, normalisation and ReLU; the size stays unless `valid` or strided."""
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        pad = (0, 0) if valid or stride > 1 else (height // 2, width // 2)
        x = conv_norm(self.g, x, scope, channels, kernel, stride=stride, pad=pad, fold=self.fold)
        return relu(self.g, x, scope)

    def shrink(self, x: Feature, scope: str) -> Feature:
        return max_pool(self.g, x, scope, 3, stride=2)

    def smooth(self, x: Feature, scope: str) -> Feature:
        return average_pool(self.g, x, scope, 3, pad=1)

    def join(self, scope: str, *parts: Feature) -> Feature:
        return concat(self.g, parts, scope)


def _stem(net: _Layers, x: Feature) -> Feature:
    """[N, 3, 299, 299] to [N, 384, 35, 35]."""
    x = net.conv(x, "stem/1", 32, 3, stride=2)
    x = net.conv(x, "stem/2", 32, 3, valid=True)
    x = net.conv(x, "stem/3", 64, 3)
    x = net.join(
        "stem/4", net.shrink(x, "stem/4/pool"), net.conv(x, "stem/4/conv", 96, 3, stride=2)
    )
    short = net.conv(x, "stem/5/short/1", 64, 1)
    short = net.conv(short, "stem/5/short/2", 96, 3, valid=True)
    long = net.conv(x, "stem/5/long/1", 64, 1)
    long = net.conv(long, "stem/5/long/2", 64, (1, 7))
    long = net.conv(long, "stem/5/long/3", 64, (7, 1))
    long = net.conv(long, "stem/5/long/4", 96, 3, valid=True)
    x = net.join("stem/5", short, long)
    return net.join(
        "stem/6", net.conv(x, "stem/6/conv", 192, 3, stride=2), net.shrink(x, "stem/6/pool")
    )


def _inception_a(net: _Layers, x: Feature, scope: str) -> Feature:
    """[N, 384, 35, 35] to the same shape."""
    single = net.conv(x, f"{scope}/single", 96, 1)
    double = net.conv(x, f"{scope}/double/1", 64, 1)
    double = net.conv(double, f"{scope}/double/2", 96, 3)
    triple = net.conv(x, f"{scope}/triple/1", 64, 1)
    triple = net.conv(triple, f"{scope}/triple/2", 96, 3)
    triple = net.conv(triple, f"{scope}/triple/3", 96, 3)
    pooled = net.conv(net.smooth(x, f"{scope}/pool"), f"{scope}/pool", 96, 1)
    return net.join(scope, single, double, triple, pooled)


def _reduction_a(net: _Layers, x: Feature, scope: str) -> Feature:
    """[N, 384, 35, 35] to [N, 1024, 17, 17]."""
    single = net.conv(x, f"{scope}/single", 384, 3, stride=2)
    triple = net.conv(x, f"{scope}/triple/1", 192, 1)
    triple = net.conv(triple, f"{scope}/triple/2", 224, 3)
    triple = net.conv(triple, f"{scope}/triple/3", 256, 3, stride=2)
    return net.join(scope, single, triple, net.shrink(x, f"{scope}/pool"))


def _inception_b(net: _Layers, x: Feature, scope: str) -> Feature:
    """[N, 1024, 17, 17] to the same shape."""
    single = net.conv(x, f"{scope}/single", 384, 1)
    triple = net.conv(x, f"{scope}/triple/1", 192, 1)
    triple = net.conv(triple, f"{scope}/triple/2", 224, (1, 7))
    triple = net.conv(triple, f"{scope}/triple/3", 256, (7, 1))
    quintuple = net.conv(x, f"{scope}/quintuple/1", 192, 1)
    quintuple = net.conv(quintuple, f"{scope}/quintuple/2", 192, (7, 1))
    quintuple = net.conv(quintuple, f"{scope}/quintuple/3", 224, (1, 7))
    quintuple = net.conv(quintuple, f"{scope}/quintuple/4", 224, (7, 1))
    quintuple = net.conv(quintuple, f"{scope}/quintuple/5", 256, (1, 7))
    pooled = net.conv(net.smooth(x, f"{scope}/pool"), f"{scope}/pool", 128, 1)
    return net.join(scope, single, triple, quintuple, pooled)


def _reduction_b(net: _Layers, x: Feature, scope: str) -> Feature:
    """[N, 1024, 17, 17] to [N, 1536, 8, 8]."""
    double = net.conv(x, f"{scope}/double/1", 192, 1)
    double = net.conv(double, f"{scope}/double/2", 192, 3, stride=2)
    quadruple = net.conv(x, f"{scope}/quadruple/1", 256, 1)
    quadruple = net.conv(quadruple, f"{scope}/quadruple/2", 256, (1, 7))
    quadruple = net.conv(quadruple, f"{scope}/quadruple/3", 320, (7, 1))
    quadruple = net.conv(quadruple, f"{scope}/quadruple/4", 320, 3, stride=2)
    return net.join(scope, double, quadruple, net.shrink(x, f"{scope}/pool"))


def _inception_c(net: _Layers, x: Feature, scope: str) -> Feature:
    """[N, 1536, 8, 8] to the same shape; two branches fork once more at their ends."""
    single = net.conv(x, f"{scope}/single", 256, 1)
    short = net.conv(x, f"{scope}/short/1", 384, 1)
    short = net.join(
        f"{scope}/short",
        net.conv(short, f"{scope}/short/wide", 256, (1, 3)),
        net.conv(short, f"{scope}/short/tall", 256, (3, 1)),
    )
    long = net.conv(x, f"{scope}/long/1", 384, 1)
    long = net.conv(long, f"{scope}/long/2", 448, (3, 1))
    long = net.conv(long, f"{scope}/long/3", 512, (1, 3))
    long = net.join(
        f"{scope}/long",
        net.conv(long, f"{scope}/long/wide", 256, (1, 3)),
        net.conv(long, f"{scope}/long/tall", 256, (3, 1)),
    )
    pooled = net.conv(net.smooth(x, f"{scope}/pool"), f"{scope}/pool", 256, 1)
    return net.join(scope, single, short, long, pooled)
