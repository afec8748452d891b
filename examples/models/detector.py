"""A single-shot detector in the manner of SSD (Liu et al., 2016): two outputs from three scales."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder
from examples.models.layers import Feature, conv, conv_norm, relu

IMAGE_SIZE = 160
CLASSES = 7
"""The background and six kinds of object."""
ASPECT_RATIOS = (0.5, 1.0, 2.0)
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


def build(seed: int = 0) -> onnx.ModelProto:
    """Image [N, 3, 160, 160] to scores [N, 1575, 7] and boxes [N, 1575, 4].

    A box is left, top, right and bottom as fractions of the image.
    """
    g = GraphBuilder("detector", np.random.default_rng(seed))
    x = Feature(g.input("image", TensorProto.FLOAT, [BATCH, 3, IMAGE_SIZE, IMAGE_SIZE]), 3)
    x = relu(g, conv_norm(g, x, "stem", 16, 3, stride=2, pad=1), "stem")
    x = _separable(g, x, "stage1", 32, stride=2)
    x = _separable(g, x, "stage2.0", 64, stride=2)
    fine = _separable(g, x, "stage2.1", 64)
    x = _separable(g, fine, "stage3.0", 128, stride=2)
    middle = _separable(g, x, "stage3.1", 128)
    coarse = _separable(g, middle, "stage4", 128, stride=2)

    scales = ((fine, 20), (middle, 10), (coarse, 5))
    scores, offsets = [], []
    for level, (feature, _) in enumerate(scales):
        scores.append(_head(g, feature, f"scores.{level}", CLASSES))
        offsets.append(_head(g, feature, f"offsets.{level}", 4))
    logits = g.op("Concat", scores, "scores", axis=1)
    g.op("Softmax", [logits], "scores", output="scores", axis=-1)
    priors = np.concatenate([_priors(cells) for _, cells in scales])
    _decode(g, g.op("Concat", offsets, "offsets", axis=1), priors, output="boxes")
    g.output("scores", TensorProto.FLOAT, [BATCH, len(priors), CLASSES])
    g.output("boxes", TensorProto.FLOAT, [BATCH, len(priors), 4])
    return g.model()


def _separable(
    g: GraphBuilder, x: Feature, scope: str, channels: int, *, stride: int = 1
) -> Feature:
    """A filter for each channel, then a 1 x 1 convolution."""
    depthwise = f"{scope}/depthwise"
    x = conv_norm(g, x, depthwise, x.channels, 3, stride=stride, pad=1, groups=x.channels)
    x = relu(g, x, depthwise)
    return relu(g, conv_norm(g, x, f"{scope}/pointwise", channels, 1), f"{scope}/pointwise")


def _head(g: GraphBuilder, x: Feature, scope: str, values: int) -> str:
    """For each cell and aspect ratio `values` numbers: [N, cells * cells * ratios, values]."""
    y = conv(g, x, scope, len(ASPECT_RATIOS) * values, 3, pad=1)
    rows = g.op("Transpose", [y.tensor], scope, perm=[0, 2, 3, 1])
    return g.op("Reshape", [rows, g.weight(f"{scope}.shape", [0, -1, values])], scope)


def _priors(cells: int) -> npt.NDArray[np.float32]:
    """Default boxes of a grid, [cells * cells * ratios, 4]: centre x, centre y, width, height."""
    centres = (np.arange(cells) + 0.5) / cells
    ratios = np.sqrt(ASPECT_RATIOS)
    y, x, ratio = np.meshgrid(centres, centres, ratios, indexing="ij")
    side = 2 / cells
    boxes = np.stack([x, y, side * ratio, side / ratio], axis=-1)
    return boxes.reshape(-1, 4).astype(np.float32)


def _decode(g: GraphBuilder, offsets: str, priors: npt.NDArray[np.float32], *, output: str) -> None:
    """Offsets [N, P, 4] from the default boxes [P, 4] to corners [N, P, 4]."""
    scope = "boxes"
    halves = g.weight("boxes.halves", [2, 2])
    shift, growth = g.op_outputs("Split", [offsets, halves], scope, count=2, axis=-1)
    reach = g.weight("boxes.prior_reach", priors[:, 2:] * np.float32(CENTRE_VARIANCE))
    centres = g.weight("boxes.prior_centres", priors[:, :2])
    centre = g.op("Add", [g.op("Mul", [shift, reach], scope), centres], scope)
    growth = g.op("Mul", [growth, g.weight("boxes.size_variance", SIZE_VARIANCE)], scope)
    half_sizes = g.weight("boxes.prior_half_sizes", priors[:, 2:] / 2)
    half = g.op("Mul", [g.op("Exp", [growth], scope), half_sizes], scope)
    corners = [g.op("Sub", [centre, half], scope), g.op("Add", [centre, half], scope)]
    g.op("Concat", corners, scope, output=output, axis=-1)
