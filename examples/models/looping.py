"""A model with a Loop: an estimate is refined until it settles or the rounds are used up.

The body reaches outside, to the features and to weights of the outer graph. It carries a
state, stops early on a condition computed from the data, and returns how each round changed
the state, so the number of rows of the third output is known only after the run.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder

FEATURES = 48
WIDTH = 32
MAX_ROUNDS = 8
SETTLED = 0.02


def build(seed: int = 0) -> onnx.ModelProto:
    """Signal [N, 48] to answer [N, 4], the state [N, 32] and the changes [rounds]."""
    g = GraphBuilder("looping", np.random.default_rng(seed))
    signal = g.input("signal", TensorProto.FLOAT, [BATCH, FEATURES])
    weight = g.normal("encoder.weight", [FEATURES, WIDTH], 1 / math.sqrt(FEATURES))
    encoded = g.op("Tanh", [g.op("MatMul", [signal, weight], "encoder")], "encoder")
    # Half the spread that keeps a state alive: each round pulls it towards a fixed point.
    mixing = g.normal("refine.weight", [WIDTH, WIDTH], 0.5 / math.sqrt(WIDTH))
    start = g.op("Mul", [encoded, g.weight("refine.start", 0.0)], "refine")
    rounds, go_on = g.weight("refine.rounds", MAX_ROUNDS), g.weight("refine.go_on", True)
    g.op_outputs(
        "Loop",
        [rounds, go_on, start],
        "refine",
        outputs=["state", "changes"],
        body=_refine(g, encoded, mixing),
    )
    head = [
        "state",
        g.normal("head.weight", [WIDTH, 4], 1.0),
        g.normal("head.bias", [4], 0.1),
    ]
    g.op("Gemm", head, "head", output="answer")
    g.output("answer", TensorProto.FLOAT, [BATCH, 4])
    g.output("state", TensorProto.FLOAT, [BATCH, WIDTH])
    g.output("changes", TensorProto.FLOAT, ["rounds"])
    return g.model()


def _refine(g: GraphBuilder, encoded: str, mixing: str) -> onnx.GraphProto:
    """One round: new = tanh(old @ mixing + encoded); go on while the mean change is large."""
    body = g.body("round")
    body.input("round", TensorProto.INT64, [])
    body.input("go_on_in", TensorProto.BOOL, [])
    old = body.input("old", TensorProto.FLOAT, [BATCH, WIDTH])
    mixed = body.op("Add", [body.op("MatMul", [old, mixing], "round"), encoded], "round")
    new = body.op("Tanh", [mixed], "round", output="new")
    distance = body.op("Abs", [body.op("Sub", [new, old], "round")], "round")
    change = body.op("ReduceMean", [distance], "round", output="change", keepdims=0)
    body.op("Greater", [change, body.weight("settled", SETTLED)], "round", output="go_on_out")
    body.output("go_on_out", TensorProto.BOOL, [])
    body.output("new", TensorProto.FLOAT, [BATCH, WIDTH])
    body.output("change", TensorProto.FLOAT, [])
    return body.graph()
