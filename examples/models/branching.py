"""A model with an If: bright images take a thorough way, dark ones a quick way.

Both bodies reach outside: to the features, which are computed once, and to the classifier's
weights, which are initializers of the outer graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder
from examples.models.layers import Feature, conv_norm, max_pool, relu

CHANNELS = 32
CLASSES = 10


def build(seed: int = 0) -> onnx.ModelProto:
    """Image [N, 3, 64, 64] to probabilities [N, 10] and the brightness, a scalar."""
    g = GraphBuilder("branching", np.random.default_rng(seed))
    image = g.input("image", TensorProto.FLOAT, [BATCH, 3, 64, 64])
    x = relu(g, conv_norm(g, Feature(image, 3), "stem", CHANNELS, 3, stride=2, pad=1), "stem")
    x = max_pool(g, x, "stem", 2, stride=2)
    g.op("ReduceMean", [image], "brightness", output="brightness", keepdims=0)
    bright = g.op("Greater", ["brightness", g.weight("threshold", 0.0)], "brightness")
    weight = g.normal("classifier.weight", [CHANNELS, CLASSES], 0.5)
    bias = g.normal("classifier.bias", [CLASSES], 0.1)

    logits = g.op(
        "If",
        [bright],
        "choice",
        then_branch=_thorough(g, x, weight, bias),
        else_branch=_quick(g, x, weight, bias),
    )
    g.op("Softmax", [logits], "probabilities", output="probabilities", axis=-1)
    g.output("probabilities", TensorProto.FLOAT, [BATCH, CLASSES])
    g.output("brightness", TensorProto.FLOAT, [])
    return g.model()


def _thorough(g: GraphBuilder, x: Feature, weight: str, bias: str) -> onnx.GraphProto:
    """Two more convolutions, with weights of their own, before pooling and classifying."""
    body = g.body("thorough")
    deep = x
    for index in range(2):
        deep = conv_norm(body, deep, f"thorough.{index}", CHANNELS, 3, pad=1)
        deep = relu(body, deep, f"thorough.{index}")
    return _classify(body, deep.tensor, weight, bias)


def _quick(g: GraphBuilder, x: Feature, weight: str, bias: str) -> onnx.GraphProto:
    return _classify(g.body("quick"), x.tensor, weight, bias)


def _classify(body: GraphBuilder, tensor: str, weight: str, bias: str) -> onnx.GraphProto:
    """Close a body: [N, 32, 16, 16] to logits [N, 10]."""
    scope = body.name
    pooled = body.op("GlobalAveragePool", [tensor], scope)
    flat = body.op("Flatten", [pooled], scope, axis=1)
    logits = body.op("MatMul", [flat, weight], scope)
    out = body.op("Add", [logits, bias], scope, output=f"{scope}_logits")
    body.output(out, TensorProto.FLOAT, [BATCH, CLASSES])
    return body.graph()
