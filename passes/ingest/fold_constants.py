"""fold-constants: what depends on weights alone is computed once, at compile time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import onnx

from partc.errors import TargetError
from partc.ir.program import Array, Op, Program
from partc.passes import surgery
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.types import value_info
from partc.targets.reference import open_reference

# Folding these would turn stored 8-bit weights into 32-bit ones.
_KEEPS_WEIGHTS_SMALL = frozenset({"DequantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replaces tensors that depend on weights alone, and shapes that are static, by weights.

    Attributes:
        max_mib: a larger result stays an op: every host that needs it computes it anew, and it
            never crosses a link.
    """

    name: ClassVar[str] = "fold-constants"
    kind: ClassVar[Literal["analysis", "transformation"]] = "transformation"
    requires: ClassVar[tuple[str, ...]] = ("well-formed", "typed")
    ensures: ClassVar[tuple[str, ...]] = ("well-formed", "typed", "folded")

    max_mib: float = 16.0

    def run(self, program: Program, context: Context) -> PassResult:
        """Fold until nothing is left to fold: a folded shape makes its readers constant."""
        folded_ops = 0
        while values := {**_static_shapes(program), **self._constants(program)}:
            before = len(program.ops)
            program = _replaced(program, values)
            folded_ops += before - len(program.ops)
        diagnostics = (f"folded {folded_ops} ops",) if folded_ops else ()
        return PassResult(program, folded_ops > 0, diagnostics)

    def _constants(self, program: Program) -> dict[str, Array]:
        limit = self.max_mib * 2**20
        foldable: set[str] = set()
        ops: list[Op] = []
        for op in program.ops:
            if (
                op.is_constant
                and op.op_type not in _KEEPS_WEIGHTS_SMALL
                and not set(op.outputs) & set(program.outputs)
                and all(tensor in foldable for tensor in op.inputs)
                and all(program.tensor(tensor).is_sized for tensor in op.outputs)
                and sum(program.tensor(tensor).size_bytes for tensor in op.outputs) <= limit
            ):
                foldable.update(op.outputs)
                ops.append(op)
        kept = [
            tensor
            for op in ops
            for tensor in op.outputs
            if any(
                not set(reader.outputs) <= foldable for reader in program.consumers.get(tensor, ())
            )
        ]
        if not kept:
            return {}
        model = surgery.extract(
            program.model,
            [op.name for op in ops],
            [],
            [value_info(tensor, program.tensor(tensor)) for tensor in kept],
            "constants",
        )
        try:
            with open_reference(model) as runner:
                return runner.run({})
        except TargetError:  # they stay ops, and each host computes them
            return {}


def _static_shapes(program: Program) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for op in program.ops:
        if op.op_type != "Shape" or op.domain not in ("", "ai.onnx") or not op.inputs:
            continue
        shape = program.tensor(op.inputs[0]).shape
        if shape is None or any(not isinstance(dim, int) for dim in shape):
            continue
        if set(op.outputs) & set(program.outputs):
            continue
        values[op.outputs[0]] = np.array(shape[_slice(program.nodes[op.name])], dtype=np.int64)
    return values


def _slice(node: onnx.NodeProto) -> slice:
    ends = {attribute.name: int(attribute.i) for attribute in node.attribute}
    return slice(ends.get("start"), ends.get("end"))


def _replaced(program: Program, values: dict[str, Array]) -> Program:
    model = surgery.replace_by_constants(program.model, values)
    rewritten = replace(
        program,
        model=model,
        blocks=None,
        costs=None,
        plan=None,
        segments=None,
        verification=None,
    )
    known = {*rewritten.inputs, *rewritten.producer}
    return replace(
        rewritten, tensors={n: info for n, info in program.tensors.items() if n in known}
    )
