"""count-ops: says how many ops of a type the model has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc import Context, Pass, PassResult, Program


@dataclass(frozen=True)
class CountOps(Pass):
    """Adds a notice with the number of ops.

    Attributes:
        op_type: which ops count; all if none.
    """

    name: ClassVar[str] = "count-ops"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("well-formed",)

    op_type: str | None = None

    def run(self, program: Program, context: Context) -> PassResult:
        """Count."""
        counted = [op for op in program.ops if self.op_type in (None, op.op_type)]
        notice = f"{len(counted)} ops of type {self.op_type or 'any'}"
        counted_program = replace(program, notices=(*program.notices, notice))
        return PassResult(counted_program, True, (notice,))
