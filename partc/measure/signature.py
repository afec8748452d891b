"""Structural signatures: two blocks with the same one cost the same on the same hardware."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from partc.ir.program import Block, Program

_LONGEST_LABEL = 120


def block_signature(program: Program, block: Block) -> str:
    """As `ops_signature`, of the ops of a block."""
    return ops_signature(program, block.ops)


def ops_signature(program: Program, ops: Iterable[str]) -> str:
    """Digest of ops, attributes, wiring, and the types and shapes of what they read.

    Names do not count, nor do the values of weights, save small whole numbers and truth values:
    they are shapes, axes and numbers of rounds, which decide how much is computed.
    """
    digest = hashlib.sha256()
    local: dict[str, str] = {}

    def label(tensor: str) -> str:
        if tensor not in local:
            local[tensor] = f"t{len(local)}:{_described(program, tensor)}"
        return local[tensor]

    opsets = {o.domain: o.version for o in program.model.opset_import}
    for name in ops:
        node = program.nodes[name]
        digest.update(f"{opsets.get(node.domain)}:".encode())
        digest.update(f"{node.domain}.{node.op_type}(".encode())
        digest.update(",".join(label(t) if t else "-" for t in node.input).encode())
        digest.update(b")->")
        digest.update(",".join(label(t) if t else "-" for t in node.output).encode())
        op = program.op_by_name[name]
        captured = (tensor for tensor in (*op.inputs, *op.weights) if tensor not in node.input)
        digest.update(",".join(label(tensor) for tensor in captured).encode())
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            digest.update(attribute.SerializeToString(deterministic=True))
        digest.update(b"\n")
    return digest.hexdigest()


def ops_label(program: Program, ops: Iterable[str]) -> str:
    """For people: types of ops, and shapes of what enters and leaves them.

    As ``Conv+Clip 1x3x224x224 -> 1x32x112x112``.
    """
    names = list(ops)
    inside = set(names)
    written = [t for name in names for t in program.op_by_name[name].outputs]
    entering = dict.fromkeys(
        t for name in names for t in program.op_by_name[name].inputs if t not in written
    )
    leaving = [
        t
        for t in written
        if t in program.outputs
        or any(reader.name not in inside for reader in program.consumers.get(t, ()))
    ]
    types = "+".join(program.op_by_name[name].op_type for name in names)
    if len(types) > _LONGEST_LABEL // 2:
        types = f"{types[: _LONGEST_LABEL // 3]}... ({len(names)} ops)"
    shapes = (", ".join(_shape(program, t) for t in tensors) for tensors in (entering, leaving))
    text = f"{types} {' -> '.join(shapes)}"
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."


def _shape(program: Program, tensor: str) -> str:
    info = program.tensors.get(tensor)
    shape = info.planned_shape if info else None
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


def _described(program: Program, tensor: str) -> str:
    if tensor in program.weights:
        steering = program.steering_weights.get(tensor, "")
        return f"weight:{program.weight_types.get(tensor, '')}:{steering}"
    info = program.tensors.get(tensor)
    return f"{info.dtype}{info.planned_shape}" if info else "?"
