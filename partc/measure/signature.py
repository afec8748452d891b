"""Structural signatures: two blocks with the same one cost the same on the same hardware."""

from __future__ import annotations

import hashlib

from partc.ir.program import Block, Program


def block_signature(program: Program, block: Block) -> str:
    """Digest of a block's ops, attributes, wiring, and the types and shapes of what it reads.

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
    for name in block.ops:
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


def _described(program: Program, tensor: str) -> str:
    if tensor in program.weights:
        steering = program.steering_weights.get(tensor, "")
        return f"weight:{program.weight_types.get(tensor, '')}:{steering}"
    info = program.tensors.get(tensor)
    return f"{info.dtype}{info.planned_shape}" if info else "?"
