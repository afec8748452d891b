"""A program as text: what dumps show and what tests compare."""

from __future__ import annotations

from collections.abc import Iterator

from partc.ir.cost import CostTable
from partc.ir.program import Op, Program
from partc.ir.tensor import TensorInfo


def program_text(program: Program) -> str:
    """The graph, one op a line, with the annotations that passes have made so far.

    Measured times are left out, so that the text of one program is always the same.
    """
    return "\n".join(_lines(program)) + "\n"


def _lines(program: Program) -> Iterator[str]:
    yield f"program {program.name}"
    for name in program.inputs:
        yield f"  input {_typed(program, name)}"
    total = sum(program.weights.values())
    yield f"  weights {len(program.weights)}, {total} bytes"
    for op in program.ops:
        yield f"  {_op(program, op)}"
    for name in program.outputs:
        yield f"  output {_typed(program, name)}"
    for block in program.blocks or ():
        yield f"block {block.name}: {' '.join(block.ops)}"
    if program.costs is not None:
        yield from _costs(program.costs)
    if program.plan is not None:
        for transfer in program.plan.transfers:
            yield (
                f"transfer {transfer.tensor}: {transfer.sender} -> {transfer.receiver}, "
                f"{transfer.size_bytes} bytes"
            )
    for segment in program.segments or ():
        yield (
            f"segment {segment.id} on {segment.host}: {', '.join(segment.inputs) or '-'} -> "
            f"{', '.join(segment.outputs) or '-'}; {len(segment.ops)} ops"
        )
    if program.verification is not None:
        yield f"verified {len(program.verification.differences)} tensors"


def _costs(costs: CostTable) -> Iterator[str]:
    """Where costs are known, and how: without the times themselves."""
    known: dict[tuple[str, str], int] = {}
    for _, host, cost in costs:
        known[host, cost.provenance] = known.get((host, cost.provenance), 0) + 1
    for (host, provenance), count in sorted(known.items()):
        yield f"costs on {host}: {count} blocks {provenance}"


def _op(program: Program, op: Op) -> str:
    where = ""
    if program.plan is not None and op.name in program.plan.placement:
        where = f" @{program.plan.placement[op.name]}"
    outputs = ", ".join(_typed(program, name) for name in op.outputs)
    reads = ", ".join((*op.inputs, *(f"%{weight}" for weight in op.weights)))
    kind = f"{op.domain}.{op.op_type}" if op.domain else op.op_type
    constant = " constant" if op.is_constant else ""
    return f"{outputs} = {kind}({reads}) [{op.name}]{constant}{where}"


def _typed(program: Program, name: str) -> str:
    info = program.tensors.get(name)
    return f"{name}: {_type(info)}" if info is not None else name


def _type(info: TensorInfo) -> str:
    if info.kind != "tensor":
        return info.kind
    shape = "..." if info.shape is None else ", ".join(str(dim or "?") for dim in info.shape)
    return f"{info.dtype or '?'}[{shape}]"
