"""A model with a Scan: a gated recurrent layer runs along a sequence.

The body reaches outside, to the recurrent weights (initializers of the outer graph) and to a
context that is computed once from the whole sequence.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from examples.models.graph import BATCH, GraphBuilder

STEPS = 20
FEATURES = 16
WIDTH = 24


def build(seed: int = 0) -> onnx.ModelProto:
    """Sequence [20, N, 16] to the last state [N, 24] and scores [N, 20, 3]."""
    g = GraphBuilder("scanning", np.random.default_rng(seed))
    sequence = g.input("sequence", TensorProto.FLOAT, [STEPS, BATCH, FEATURES])
    mean = g.op("ReduceMean", [sequence], "context", axes=[0], keepdims=0)
    weight = g.normal("context.weight", [FEATURES, WIDTH], 1 / math.sqrt(FEATURES))
    context = g.op("MatMul", [mean, weight], "context")
    start = g.op("Mul", [context, g.weight("recurrent.start", 0.0)], "recurrent")
    _, states = g.op_outputs(
        "Scan",
        [start, sequence],
        "recurrent",
        outputs=["last_state", "/recurrent/states"],
        body=_step(g, context),
        num_scan_inputs=1,
    )
    by_sample = g.op("Transpose", [states], "head", perm=[1, 0, 2])
    head = g.normal("head.weight", [WIDTH, 3], 1.0)
    g.op("MatMul", [by_sample, head], "head", output="scores")
    g.output("last_state", TensorProto.FLOAT, [BATCH, WIDTH])
    g.output("scores", TensorProto.FLOAT, [BATCH, STEPS, 3])
    return g.model()


def _step(g: GraphBuilder, context: str) -> onnx.GraphProto:
    """One step: state = (1 - gate) * state + gate * proposal."""
    weights = {}
    for part in ("gate", "proposal"):
        weights[part] = (
            g.normal(f"recurrent.{part}.input", [FEATURES, WIDTH], 1 / math.sqrt(FEATURES)),
            g.normal(f"recurrent.{part}.state", [WIDTH, WIDTH], 1 / math.sqrt(WIDTH)),
        )
    body = g.body("step")
    state = body.input("state", TensorProto.FLOAT, [BATCH, WIDTH])
    sample = body.input("sample", TensorProto.FLOAT, [BATCH, FEATURES])

    def mix(part: str, extra: str) -> str:
        from_input, from_state = weights[part]
        total = body.op("MatMul", [sample, from_input], part)
        total = body.op("Add", [total, body.op("MatMul", [state, from_state], part)], part)
        return body.op("Add", [total, extra], part)

    gate = body.op("Sigmoid", [mix("gate", body.weight("gate.bias", -0.5))], "gate")
    proposal = body.op("Tanh", [mix("proposal", context)], "proposal")
    change = body.op("Mul", [gate, body.op("Sub", [proposal, state], "step")], "step")
    new = body.op("Add", [state, change], "step", output="new_state")
    body.output(new, TensorProto.FLOAT, [BATCH, WIDTH])
    # The same value is a state and a scan output; a body's outputs need names of their own.
    copy = body.op("Identity", [new], "step", output="new_state_row")
    body.output(copy, TensorProto.FLOAT, [BATCH, WIDTH])
    return body.graph()
