"""Recipes for random graphs, part two: moving, casting, choosing, and what needs no input."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.graph_draft import FLOAT, LARGEST_VALUE, GraphDraft, Value, fits

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
FLOAT16, DOUBLE = TensorProto.FLOAT16, TensorProto.DOUBLE


def transpose(g: GraphDraft) -> bool:
    x = g.pick(lambda v: v.rank >= 2)
    if x is None:
        return False
    order = g.draw_permutation(x.rank)
    g.add("Transpose", [x], [x.shape[i] for i in order], bound=x.bound, exact=True, perm=order)
    return True


def reshape(g: GraphDraft) -> bool:
    x = g.pick(lambda v: v.rank >= 1)
    if x is None:
        return False
    size = math.prod(x.shape)
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    rows = g.choose(divisors)
    asked, shape = g.choose(
        (
            ([rows, -1], (rows, size // rows)),
            ([-1], (size,)),
            ([0, -1], (x.shape[0], size // x.shape[0])),
            ([1, rows, 1, -1], (1, rows, 1, size // rows)),
        )
    )
    g.add("Reshape", [x, g.weight(asked)], shape, bound=x.bound, exact=True)
    return True


def concat(g: GraphDraft) -> bool:
    """Two or three tensors that agree but for one axis; the same one may come twice."""
    x = g.pick(lambda v: v.rank >= 1)
    if x is None:
        return False
    axis = g.draw_int(0, x.rank - 1)

    def agrees(y: Value) -> bool:
        others = [y.shape[:axis] == x.shape[:axis], y.shape[axis + 1 :] == x.shape[axis + 1 :]]
        return y.dtype == x.dtype and y.rank == x.rank and all(others)

    matching = [value for value in g.values if agrees(value)]
    parts = [x, *(g.choose(matching) for _ in range(g.draw_int(1, 2)))]
    shape = [*x.shape[:axis], sum(part.shape[axis] for part in parts), *x.shape[axis + 1 :]]
    if not fits(shape):
        return False
    g.add("Concat", parts, shape, bound=max(p.bound for p in parts), exact=True, axis=axis)
    return True


def split(g: GraphDraft) -> bool:
    """Two or three uneven parts, not all of which need a reader."""
    x = g.pick(lambda v: any(side >= 2 for side in v.shape))
    if x is None:
        return False
    axis = g.choose([i for i, side in enumerate(x.shape) if side >= 2])
    side = x.shape[axis]
    sizes = [1, side - 1] if side == 2 or g.chance(2) else [1, 1, side - 2]
    shapes = [[*x.shape[:axis], size, *x.shape[axis + 1 :]] for size in sizes]
    g.add_split("Split", [x, g.weight(sizes)], shapes, bound=x.bound, exact=True, axis=axis)
    return True


def cast(g: GraphDraft) -> bool:
    """One Cast between types.

    A float that arithmetic has rounded may become a float16 or a double, which comparisons treat
    as such, but nothing goes back from a rounded float16: the last bit would be left to chance.
    """
    x = g.pick(lambda v: v.dtype != FLOAT16 or v.exact)
    if x is None:
        return False
    targets = [FLOAT16, DOUBLE] if x.is_float else [FLOAT]
    if x.exact or x.dtype == INT64:
        targets = [t for t in (INT64, BOOL, FLOAT16, DOUBLE, FLOAT) if t != x.dtype]
    target = g.choose(targets)
    bound = 1.0 if target == BOOL else x.bound
    g.add("Cast", [x], x.shape, bound=bound, dtype=target, exact=True, to=target)
    return True


def truncate(g: GraphDraft) -> bool:
    """Float to int64 away from whole numbers, where rounding would decide."""
    x = g.pick_float(lambda v: v.bound * 3 + 1 <= LARGEST_VALUE)
    if x is None:
        return False
    wide = g.add("Mul", [x, g.weight(2.7183)], x.shape, bound=x.bound * 2.7183)
    moved = g.add("Add", [wide, g.weight(0.3137)], x.shape, bound=x.bound * 3 + 1)
    whole = g.add("Cast", [moved], x.shape, bound=moved.bound, dtype=INT64, to=INT64)
    g.replace(whole, exact=True)
    return True


def where(g: GraphDraft) -> bool:
    """Where on a comparison, or on a boolean tensor of the same shape that is there already."""
    x = g.pick_float()
    if x is None:
        return False
    condition = g.pick(lambda v: v.dtype == BOOL and v.shape == x.shape)
    if condition is None or g.chance(2):
        condition = g.add("Greater", [x, g.weight(0.1732)], x.shape, bound=1.0, dtype=BOOL)
    y = g.pick_float(lambda v: v.shape in (x.shape, ()))
    other: Value | str = g.weight(-0.25) if y is None or g.chance(2) else y
    bound = max(x.bound, y.bound if isinstance(other, Value) and y is not None else 0.25)
    g.add("Where", [condition, x, other], x.shape, bound=bound, dtype=FLOAT, exact=True)
    return True


def shape_chain(g: GraphDraft) -> bool:
    """Shape, Gather, Concat, Reshape: how exporters keep a dimension and flatten the others."""
    x = g.pick_float(lambda v: v.rank >= 2)
    if x is None:
        return False
    sides = g.add("Shape", [x], [x.rank], bound=max(x.shape), dtype=INT64, exact=True)
    g.replace(sides, exact=True)
    axis = g.draw_int(0, x.rank - 1)
    index = g.weight([axis])
    kept = g.add("Gather", [sides, index], [1], bound=max(x.shape), exact=True, axis=0)
    asked = g.add("Concat", [kept, g.weight([-1])], [2], bound=max(x.shape), exact=True, axis=0)
    side = x.shape[axis]
    shape = (side, math.prod(x.shape) // side)
    g.add("Reshape", [x, asked], shape, bound=x.bound, exact=True)
    return True


def gather(g: GraphDraft) -> bool:
    x = g.pick(lambda v: v.rank >= 1)
    if x is None:
        return False
    axis = g.draw_int(0, x.rank - 1)
    indices = [g.draw_int(-x.shape[axis], x.shape[axis] - 1) for _ in range(g.draw_int(1, 3))]
    shape = [*x.shape[:axis], len(indices), *x.shape[axis + 1 :]]
    if not fits(shape):
        return False
    g.add("Gather", [x, g.weight(indices)], shape, bound=x.bound, exact=True, axis=axis)
    return True


def constant(g: GraphDraft) -> bool:
    """A node that has no input, or only a constant one."""
    shape = g.choose(((), (1,), (3,), (2, 3)))
    if g.chance(2):
        values = np.asarray(g.rng.uniform(-1, 1, shape), np.float32)
        tensor = numpy_helper.from_array(values)
        g.add("Constant", [], shape, bound=1.0, dtype=FLOAT, exact=True, value=tensor)
        return True
    sides = g.weight(np.array(shape, np.int64))
    fill = helper.make_tensor("fill", FLOAT, [1], [0.75])
    g.add("ConstantOfShape", [sides], shape, bound=1.0, dtype=FLOAT, exact=True, value=fill)
    return True


def weight_only(g: GraphDraft) -> bool:
    """Ops that only read weights; their result is there for others to read."""
    values = g.rng.uniform(-1, 1, g.choose(((3, 2), (4, 4))))
    turned = g.transposed_weight(values.T)
    g.add("Mul", [turned, g.weight(0.5)], turned.shape, bound=turned.bound)
    return True
