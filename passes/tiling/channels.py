"""A layer that is cut over its input channels: every host adds its part to one sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partc.ir.program import Op, Program
from partc.passes.tiling.bound import Binder
from partc.passes.tiling.geometry import TilingError


@dataclass(frozen=True)
class InputChannels:
    """A Conv, Gemm or MatMul with weights, ready to be cut.

    Attributes:
        op: the layer.
        entry_axis, channels: of its input, the axis that it sums over and how long it is.
        weight_index, weight_axis: where its weights are cut.
        bias_index: inputs from here on are added once.
    """

    op: Op
    entry_axis: int
    channels: int
    weight_index: int
    weight_axis: int
    bias_index: int


def input_channels(
    program: Program, binder: Binder, ops: Sequence[Op], entry: str
) -> InputChannels:
    """The layer that begins a block sequence.

    Raises:
        TilingError: the first op is no such layer, or another op reads the entry too.
    """
    readers = [op for op in ops if entry in op.inputs]
    if len(readers) != 1:
        raise TilingError(
            f"{len(readers)} ops read {entry!r}, and a sum over its channels needs exactly one"
        )
    op = readers[0]
    node = program.nodes[op.name]
    what = f"op {op.name!r} ({op.op_type})"
    if op.domain not in ("", "ai.onnx") or op.op_type not in ("Conv", "Gemm", "MatMul"):
        raise TilingError(f"{what} is no Conv, Gemm or MatMul, whose input channels could be cut")
    if node.input[0] != entry or any(
        name and not binder.is_constant(name) for name in list(node.input)[1:]
    ):
        raise TilingError(f"{what} does not multiply {entry!r} with weights")
    attributes = {a.name: a for a in node.attribute}
    shape = program.tensor(entry).planned_shape or ()
    if op.op_type == "Conv":
        if "group" in attributes and attributes["group"].i != 1:
            raise TilingError(f"{what} has groups, so no host has use for other channels")
        found = InputChannels(op, 1, shape[1], 1, 1, 2)
    elif op.op_type == "Gemm":
        is_a = bool("transA" in attributes and attributes["transA"].i)
        is_b = bool("transB" in attributes and attributes["transB"].i)
        axis = 0 if is_a else 1
        found = InputChannels(op, axis, shape[axis], 1, 1 if is_b else 0, 2)
    else:
        rank = len(binder.shape(node.input[1]))
        if rank < 2 or len(shape) < 2:
            raise TilingError(f"{what} multiplies with a vector")
        found = InputChannels(op, len(shape) - 1, shape[-1], 1, rank - 2, 2)
    binder.fixed_rows(entry, found.entry_axis)
    return found
