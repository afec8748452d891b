"""Structural signatures: two blocks with the same one cost the same on the same hardware."""

from __future__ import annotations

import hashlib

from partc.ir.program import Block, Program


def block_signature(program: Program, block: Block) -> str:
    """Digest of a block's ops, attributes, wiring, and the types and shapes of what it reads.

    Names and the values of weights do not count.
    """
    digest = hashlib.sha256()
    local: dict[str, str] = {}

    def label(tensor: str) -> str:
        if tensor not in local:
            local[tensor] = f"t{len(local)}:{_described(program, tensor)}"
        return local[tensor]

    for name in block.ops:
        node = program.nodes[name]
        digest.update(f"{node.domain}.{node.op_type}(".encode())
        digest.update(",".join(label(t) if t else "-" for t in node.input).encode())
        digest.update(b")->")
        digest.update(",".join(label(t) if t else "-" for t in node.output).encode())
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            digest.update(attribute.SerializeToString(deterministic=True))
        digest.update(b"\n")
    return digest.hexdigest()


def _described(program: Program, tensor: str) -> str:
    if tensor in program.weights:
        return f"weight:{program.weight_types.get(tensor, '')}"
    info = program.tensors.get(tensor)
    return f"{info.dtype}{info.planned_shape}" if info else "?"
