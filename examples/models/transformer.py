"""A transformer encoder of BERT's shape (Devlin et al., 2018), post-norm, with an attention mask.

The mask is expanded once, to [N, 1, S, S], and read by every layer: a tensor that stays alive
through the whole model. The defaults are narrow so that it is quick; BERT-base is
`build(width=768, heads=12, vocabulary=30522, sequence=512)` without its segment embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder

EPSILON = 1e-12


def build(
    seed: int = 0,
    *,
    layers: int = 12,
    width: int = 256,
    heads: int = 4,
    sequence: int = 64,
    vocabulary: int = 8192,
    decompose_norm: bool = False,
) -> onnx.ModelProto:
    """Token ids and mask, int64 [N, S], to hidden [N, S, width] and pooled [N, width].

    Args:
        seed: decides the weights.
        layers: how many encoder layers.
        width: size of a token's vector; the feed-forward part is four times as wide.
        heads: how many attention heads share `width`.
        sequence: S, the fixed number of tokens.
        vocabulary: how many token ids there are.
        decompose_norm: write layer normalisation as nine elementary ops, as exporters do
            below opset 17, instead of one LayerNormalization.
    """
    if width % heads:
        raise ValueError(f"{heads} heads cannot share a width of {width}; choose a divisor")
    g = GraphBuilder("transformer", np.random.default_rng(seed))
    ids = g.input("input_ids", TensorProto.INT64, [BATCH, sequence])
    mask = g.input("attention_mask", TensorProto.INT64, [BATCH, sequence])
    net = _Encoder(g, width, heads, decompose_norm)
    bias = _attention_bias(g, mask, sequence)
    x = net.embed(ids, sequence, vocabulary)
    for layer in range(layers):
        scope = f"encoder/layer.{layer}"
        x = net.norm(
            net.add(net.attention(x, bias, scope), x, f"{scope}/attention"), f"{scope}/attention"
        )
        last = layer == layers - 1
        x = net.norm(
            net.add(net.feed_forward(x, scope), x, scope), scope, output="hidden" if last else None
        )
    net.pool(x, output="pooled")
    g.output("hidden", TensorProto.FLOAT, [BATCH, sequence, width])
    g.output("pooled", TensorProto.FLOAT, [BATCH, width])
    return g.model()


def _attention_bias(g: GraphBuilder, mask: str, sequence: int) -> str:
    """0 where a token may be looked at and the lowest float elsewhere, [N, 1, S, S]."""
    row = g.op("Unsqueeze", [mask, g.weight("mask.axes", [1, 2])], "mask")
    visible = g.op("Cast", [row], "mask", to=TensorProto.BOOL)
    square = g.op("Expand", [visible, g.weight("mask.shape", [1, 1, sequence, sequence])], "mask")
    lowest = g.weight("mask.lowest", np.finfo(np.float32).min)
    return g.op("Where", [square, g.weight("mask.zero", 0.0), lowest], "mask")


@dataclass(frozen=True)
class _Encoder:
    g: GraphBuilder
    width: int
    heads: int
    decompose_norm: bool

    def embed(self, ids: str, sequence: int, vocabulary: int) -> str:
        g = self.g
        words = g.normal("embeddings.word.weight", [vocabulary, self.width], 1.0)
        positions = g.normal("embeddings.position.weight", [1, sequence, self.width], 0.5)
        x = g.op("Gather", [words, ids], "embeddings/word", axis=0)
        return self.norm(self.add(x, positions, "embeddings"), "embeddings")

    def attention(self, x: str, bias: str, scope: str) -> str:
        """Multi-head self-attention, [N, S, width] to the same shape."""
        g = self.g
        size = self.width // self.heads
        here = f"{scope}/attention"
        prefix = here.replace("/", ".")
        split = g.weight(f"{prefix}.split", [0, 0, self.heads, size])
        parts = {}
        for part, order in (
            ("query", (0, 2, 1, 3)),
            ("key", (0, 2, 3, 1)),
            ("value", (0, 2, 1, 3)),
        ):
            y = self.linear(x, f"{here}/{part}", self.width, self.width)
            y = g.op("Reshape", [y, split], f"{here}/{part}")
            parts[part] = g.op("Transpose", [y], f"{here}/{part}", perm=order)
        scores = g.op("MatMul", [parts["query"], parts["key"]], here)
        scores = g.op("Div", [scores, g.weight(f"{prefix}.scale", math.sqrt(size))], here)
        weights = g.op("Softmax", [self.add(scores, bias, f"{here}/mask")], here, axis=-1)
        mixed = g.op("MatMul", [weights, parts["value"]], here)
        mixed = g.op("Transpose", [mixed], here, perm=(0, 2, 1, 3))
        mixed = g.op("Reshape", [mixed, g.weight(f"{prefix}.merge", [0, 0, self.width])], here)
        return self.linear(mixed, f"{here}/output", self.width, self.width)

    def feed_forward(self, x: str, scope: str) -> str:
        """Two linear layers around an exact GELU, x / 2 * (1 + erf(x / sqrt(2)))."""
        g = self.g
        x = self.linear(x, f"{scope}/intermediate", self.width, 4 * self.width)
        here = f"{scope}/gelu"
        prefix = here.replace("/", ".")
        curve = g.op("Div", [x, g.weight(f"{prefix}.sqrt2", math.sqrt(2))], here)
        curve = g.op("Erf", [curve], here)
        curve = self.add(curve, g.weight(f"{prefix}.one", 1.0), here)
        x = g.op("Mul", [g.op("Mul", [x, curve], here), g.weight(f"{prefix}.half", 0.5)], here)
        return self.linear(x, f"{scope}/output", 4 * self.width, self.width)

    def pool(self, x: str, *, output: str) -> None:
        """The first token through a linear layer and tanh."""
        g = self.g
        first = g.op("Gather", [x, g.weight("pooler.first", 0)], "pooler", axis=1)
        g.op(
            "Tanh", [self.linear(first, "pooler", self.width, self.width)], "pooler", output=output
        )

    def linear(self, x: str, scope: str, size_in: int, size_out: int) -> str:
        prefix = scope.replace("/", ".")
        weight = self.g.normal(f"{prefix}.weight", [size_in, size_out], 1 / math.sqrt(size_in))
        bias = self.g.normal(f"{prefix}.bias", [size_out], 0.1)
        return self.add(self.g.op("MatMul", [x, weight], scope), bias, scope)

    def add(self, a: str, b: str, scope: str) -> str:
        return self.g.op("Add", [a, b], scope)

    def norm(self, x: str, scope: str, *, output: str | None = None) -> str:
        """Layer normalisation over the last axis."""
        g = self.g
        scope = f"{scope}/norm"
        prefix = scope.replace("/", ".")
        scale = g.weight(f"{prefix}.weight", g.rng.uniform(0.8, 1.2, self.width).astype(np.float32))
        shift = g.normal(f"{prefix}.bias", [self.width], 0.1)
        if not self.decompose_norm:
            inputs = [x, scale, shift]
            return g.op(
                "LayerNormalization", inputs, scope, output=output, axis=-1, epsilon=EPSILON
            )
        centred = g.op("Sub", [x, g.op("ReduceMean", [x], scope, axes=[-1])], scope)
        squares = g.op("Pow", [centred, g.weight(f"{prefix}.two", 2.0)], scope)
        variance = g.op("ReduceMean", [squares], scope, axes=[-1])
        std = g.op("Sqrt", [self.add(variance, g.weight(f"{prefix}.eps", EPSILON), scope)], scope)
        scaled = g.op("Mul", [g.op("Div", [centred, std], scope), scale], scope)
        return g.op("Add", [scaled, shift], scope, output=output)
