"""The whole model with each node's host, block and cost in its metadata, for Netron."""

from __future__ import annotations

import onnx

from partc.ir.program import Program


def annotated_model(program: Program) -> onnx.ModelProto:
    """A copy of the model; ``partc.host``, ``partc.block`` and ``partc.cost_us`` on each node.

    A block's cost stands on its first op; ops that every host computes anew are on host ``any``.
    """
    model = onnx.ModelProto()
    model.CopyFrom(program.model)
    placement = program.plan.placement if program.plan else {}
    for node in model.graph.node:
        host = placement.get(node.name, "any")
        _set(node, "partc.host", host)
        block = program.block_of.get(node.name)
        if block is None:
            continue
        _set(node, "partc.block", block.name)
        if program.costs is not None and block.ops[0] == node.name:
            cost = program.costs.of(block.name, host)
            _set(node, "partc.cost_us", f"{cost.median_s * 1e6:.1f}")
            _set(node, "partc.cost_provenance", cost.provenance)
    return model


def _set(node: onnx.NodeProto, key: str, value: str) -> None:
    for entry in node.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    node.metadata_props.add(key=key, value=value)
