"""Which ops this build of ONNX Runtime knows."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as ort_state


def unsupported(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> why, for nodes whose op, or an op in whose bodies, has no schema here."""
    functions = {(_domain(f.domain), f.name) for f in model.functions}
    found: dict[str, str] = {}
    for node in model.graph.node:
        unknown = _first_unknown(node, functions)
        if unknown is not None:
            domain, op_type = unknown
            where = f"domain {domain!r}" if domain else "the ONNX domain"
            found[node.name] = f"ONNX Runtime has no op {op_type!r} in {where}"
    return found


def _first_unknown(node: onnx.NodeProto, functions: set[tuple[str, str]]) -> tuple[str, str] | None:
    key = (_domain(node.domain), node.op_type)
    if key not in functions and key not in _known_ops():
        return key
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                unknown = _first_unknown(inner, functions)
                if unknown is not None:
                    return unknown
    return None


@cache
def _known_ops() -> frozenset[tuple[str, str]]:
    schemas: list[Any] = ort_state.get_all_operator_schema()
    return frozenset((_domain(schema.domain), schema.name) for schema in schemas)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
