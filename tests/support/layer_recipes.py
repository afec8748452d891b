"""Recipes for random graphs, part one: the ops that compute.

A recipe adds one op, or a few that belong together, to what the draft has. It returns False
and adds nothing where the draft has no tensor that suits.
"""

from __future__ import annotations

import numpy as np

from tests.support.graph_draft import LARGEST_VALUE, GraphDraft, Value, fits


def unary(g: GraphDraft) -> bool:
    x = g.pick_float()
    if x is None:
        return False
    op_type = g.choose(("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity"))
    squashes = op_type in {"Tanh", "Sigmoid"}
    g.add(op_type, [x], x.shape, bound=1.0 if squashes else x.bound, exact=not squashes)
    return True


def clip(g: GraphDraft) -> bool:
    """Clip with both limits, or with one of the optional inputs missing or empty."""
    x = g.pick_float()
    if x is None:
        return False
    low, high = g.weight(-0.5), g.weight(1.5)
    limits, bound = g.choose(
        (
            ([low, high], 1.5),
            ([low], max(x.bound, 0.5)),
            (["", high], max(x.bound, 1.5)),
            ([low, ""], max(x.bound, 0.5)),
        )
    )
    g.add("Clip", [x, *limits], x.shape, bound=bound, exact=True)
    return True


def conv(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank == 4 and v.bound * 3 + 1 <= LARGEST_VALUE)
    if x is None:
        return False
    batch, channels, height, width = x.shape
    kernel = g.choose((1, 3))
    stride = g.choose((1, 1, 2))
    depthwise = g.chance(3)
    groups = channels if depthwise else 1
    channels_out = channels * g.choose((1, 2)) if depthwise else g.choose((1, 2, 3, 4))
    pad = kernel // 2
    size = tuple((side + 2 * pad - kernel) // stride + 1 for side in (height, width))
    shape = (batch, channels_out, *size)
    if not fits(shape):
        return False
    inputs: list[Value | str] = [x]
    weights = g.filters((channels_out, channels // groups, kernel, kernel), (1, 2, 3))
    inputs.append(g.weight(weights))
    bias = g.choose(("present", "left out", "empty"))
    if bias != "left out":
        inputs.append(g.weight(g.rng.uniform(-1, 1, channels_out)) if bias == "present" else "")
    g.add(
        "Conv",
        inputs,
        shape,
        bound=x.bound * 3 + 1,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
        group=groups,
    )
    return True


def batch_normalization(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank >= 2 and v.bound * 2 + 2 <= LARGEST_VALUE)
    if x is None:
        return False
    channels = x.shape[1]
    statistics = [g.weight(g.rng.uniform(0.5, 1.0, channels)) for _ in range(4)]
    g.add("BatchNormalization", [x, *statistics], x.shape, bound=x.bound * 2 + 2)
    return True


def pool(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank == 4 and min(v.shape[2:]) >= 2)
    if x is None:
        return False
    op_type = g.choose(("MaxPool", "AveragePool"))
    stride = g.choose((1, 2))
    size = tuple((side - 2) // stride + 1 for side in x.shape[2:])
    g.add(
        op_type,
        [x],
        (*x.shape[:2], *size),
        bound=x.bound,
        exact=op_type == "MaxPool",
        kernel_shape=[2, 2],
        strides=[stride, stride],
    )
    return True


def global_pool(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank == 4)
    if x is None:
        return False
    g.add("GlobalAveragePool", [x], (*x.shape[:2], 1, 1), bound=x.bound)
    return True


def combine_with_weight(g: GraphDraft) -> bool:
    """Add or Mul with an initializer that is broadcast, on either side."""
    x = g.pick_float(lambda v: v.bound + 2 <= LARGEST_VALUE)
    if x is None:
        return False
    first_kept = g.draw_int(0, x.rank)
    shape = [side if g.chance(2) else 1 for side in x.shape[first_kept:]]
    weight = g.weight(np.asarray(g.rng.uniform(-1, 1, shape)))
    operands: list[Value | str] = [x, weight]
    if g.chance(3):
        operands.reverse()
    op_type = g.choose(("Add", "Mul"))
    g.add(op_type, operands, x.shape, bound=x.bound + 1)
    return True


def combine(g: GraphDraft) -> bool:
    """Add or Mul of two computed tensors, possibly the same one twice, possibly broadcast."""
    x = g.pick(lambda v: v.is_number)
    if x is None:
        return False
    op_type = g.choose(("Add", "Mul"))

    def bound(y: Value) -> float:
        return x.bound + y.bound if op_type == "Add" else x.bound * y.bound

    def suits(y: Value) -> bool:
        if y.dtype != x.dtype or bound(y) > LARGEST_VALUE:
            return False
        pairs = zip(x.shape[::-1], y.shape[::-1], strict=False)
        matches = all(a == b or 1 in (a, b) for a, b in pairs)
        return matches and fits(np.broadcast_shapes(x.shape, y.shape))

    y = g.pick(suits)
    if y is None:
        return False
    shape = np.broadcast_shapes(x.shape, y.shape)
    g.add(op_type, [x, y], shape, bound=bound(y), exact=not x.is_float)
    return True


def add_many(g: GraphDraft) -> bool:
    """A Sum that reads tensors of one shape, up to four of them."""
    x = g.pick_float(lambda v: v.bound * 4 <= LARGEST_VALUE)
    if x is None:
        return False
    same = [v for v in g.values if v.is_float and v.shape == x.shape and v.bound <= x.bound]
    operands = [x, *(g.choose(same) for _ in range(g.draw_int(1, 3)))]
    g.add("Sum", operands, x.shape, bound=x.bound * len(operands))
    return True


def matmul(g: GraphDraft) -> bool:
    """MatMul with a weight as it is or as Transpose(weight), which needs no input to compute."""
    x = g.pick_float(lambda v: v.rank >= 2 and v.bound * 3 <= LARGEST_VALUE)
    if x is None:
        return False
    columns = g.choose((1, 3, 4))
    shape = (*x.shape[:-1], columns)
    if not fits(shape):
        return False
    weights = g.filters((x.shape[-1], columns), (0,))
    right: Value | str
    if g.chance(2):
        right = g.transposed_weight(weights)
    else:
        right = g.weight(weights)
    g.add("MatMul", [x, right], shape, bound=x.bound * 3)
    return True


def matmul_with_itself(g: GraphDraft) -> bool:
    """MatMul(x, Transpose(x)), as in attention."""
    x = g.pick_float(
        lambda v: (
            v.rank >= 2
            and v.bound**2 * v.shape[-1] <= LARGEST_VALUE
            and fits((*v.shape[:-1], v.shape[-2]))
        )
    )
    if x is None:
        return False
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    turned = g.add(
        "Transpose", [x], [x.shape[i] for i in order], bound=x.bound, exact=True, perm=order
    )
    shape = (*x.shape[:-1], x.shape[-2])
    g.add("MatMul", [x, turned], shape, bound=x.bound**2 * x.shape[-1])
    return True


def gemm(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank == 2 and v.bound * 3 + 1 <= LARGEST_VALUE)
    if x is None:
        return False
    rows, inner = x.shape
    columns = g.choose((2, 4))
    turned = g.chance(2)
    weights = g.filters((inner, columns), (0,))
    inputs: list[Value | str] = [x, g.weight(weights.T if turned else weights)]
    bias = g.choose(("present", "left out", "empty"))
    if bias != "left out":
        inputs.append(g.weight(g.rng.uniform(-1, 1, columns)) if bias == "present" else "")
    g.add("Gemm", inputs, (rows, columns), bound=x.bound * 3 + 1, transB=int(turned))
    return True


def softmax(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank >= 1 and v.bound <= 20)
    if x is None:
        return False
    g.add("Softmax", [x], x.shape, bound=1.0, axis=g.draw_int(-x.rank, x.rank - 1))
    return True


def reduce_mean(g: GraphDraft) -> bool:
    x = g.pick_float(lambda v: v.rank >= 1)
    if x is None:
        return False
    axis = g.draw_int(0, x.rank - 1)
    keep = g.chance(2)
    shape = [*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :]]
    g.add("ReduceMean", [x], shape, bound=x.bound, axes=[axis], keepdims=int(keep))
    return True
