"""Ops that compute shapes and not values."""

from __future__ import annotations

from partc.ir.program import Program


def shaping_ops(program: Program) -> set[str]:
    """Ops that compute with shapes alone, from Shape on.

    A kernel may swallow them, as Reshape does. Were they in its block, a tensor of which only
    the shape is needed would have to be sent to wherever that block runs.
    """
    shapes: set[str] = set(program.constant_tensors)
    found: set[str] = set()
    for op in program.placed_ops:
        starts = op.op_type in ("Shape", "Size")
        if starts or (op.inputs and shapes.issuperset(op.inputs)):
            shapes.update(op.outputs)
            found.add(op.name)
    return found
