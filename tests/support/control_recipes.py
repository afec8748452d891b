"""Recipes for random graphs, part three: ops with bodies that read tensors from outside."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.graph_draft import FLOAT, LARGEST_VALUE, GraphDraft, fits

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def conditional(g: GraphDraft) -> bool:
    """An If whose bodies read outer tensors and an outer initializer; sometimes one in another."""
    x = g.pick_float(lambda v: v.bound * 2 + 2 <= LARGEST_VALUE)
    if x is None:
        return False
    y = g.pick_float(lambda v: v.shape in (x.shape, ()) and v.bound <= x.bound) or x
    outer = g.weight(np.asarray(g.rng.uniform(-1, 1, x.shape[-1:])))
    condition = g.condition()

    def body(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, x.shape)
        own = numpy_helper.from_array(np.array(0.5, np.float32), f"{name}_own")
        return helper.make_graph(list(nodes), name, [], [out], initializer=[own])

    def combined(name: str, op_type: str, left: str, right: str) -> onnx.GraphProto:
        inner, out = g.fresh_name(), g.fresh_name()
        return body(
            name,
            helper.make_node(op_type, [left, right], [inner]),
            helper.make_node("Mul", [inner, f"{name}_own"], [out], name=f"{name}_scale"),
        )

    then_branch = combined("then", "Add", x.name, outer)
    else_branch = combined("else", "Add", x.name, y.name)
    if g.chance(3):
        chosen = g.fresh_name()
        nested = helper.make_node(
            "If",
            [condition],
            [chosen],
            then_branch=combined("inner_then", "Add", y.name, x.name),
            else_branch=combined("inner_else", "Add", x.name, outer),
        )
        then_branch = body("then", nested)
    elif g.chance(4):
        then_branch = body("then", helper.make_node("Identity", [x.name], [g.fresh_name()]))
    g.add(
        "If",
        [condition],
        x.shape,
        bound=x.bound * 2 + 2,
        dtype=FLOAT,
        then_branch=then_branch,
        else_branch=else_branch,
    )
    return True


def loop(g: GraphDraft) -> bool:
    """A Loop of three rounds that carries one tensor and reads another one and a weight.

    Its second output stacks what each round makes. The condition is left out at the call, where
    it is optional, and must be handed through by the body all the same.
    """
    x = g.pick_float(lambda v: v.bound * 4 + 3 <= LARGEST_VALUE and fits((3, *v.shape)))
    if x is None:
        return False
    y = g.pick_float(lambda v: v.shape in (x.shape, ()) and v.bound <= x.bound) or x
    outer = g.weight(np.asarray(g.rng.uniform(-1, 1, x.shape[-1:])))
    old, go_on_in, go_on, sum_, new, row = (g.fresh_name() for _ in range(6))
    nodes = [
        helper.make_node("Add", [old, y.name], [sum_]),
        helper.make_node("Add", [sum_, outer], [new], name="loop_add"),
        helper.make_node("Tanh", [new], [row]),
        helper.make_node("Identity", [go_on_in], [go_on]),
    ]
    inputs = [
        helper.make_tensor_value_info(g.fresh_name(), INT64, []),
        helper.make_tensor_value_info(go_on_in, BOOL, []),
        helper.make_tensor_value_info(old, FLOAT, x.shape),
    ]
    outputs = [
        helper.make_tensor_value_info(go_on, BOOL, []),
        helper.make_tensor_value_info(new, FLOAT, x.shape),
        helper.make_tensor_value_info(row, FLOAT, x.shape),
    ]
    g.add_split(
        "Loop",
        [g.weight(np.array(3)), "", x],
        [x.shape, (3, *x.shape)],
        bound=x.bound * 4 + 3,
        body=helper.make_graph(nodes, "round", inputs, outputs),
    )
    return True
