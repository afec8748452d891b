"""Models that carry code which an execution provider compiled elsewhere."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from partc.errors import TargetError

_OP = "EPContext"


def refuse_compiled_code(model: bytes | Path) -> None:
    """Refuse a model with an ``EPContext`` op, which hands a provider what it compiled before.

    A provider runs such code, or a file that the op names, without any check that partc could
    make; engines of a bundle have keys, tests and rules of their own instead.

    Raises:
        TargetError: the model has such an op.
    """
    # Parsing takes time that large models need not: the name is there as it is, or not at all.
    if not _mentions(model):
        return
    try:
        proto = (
            onnx.load_from_string(model)
            if isinstance(model, bytes)
            else onnx.load(model, load_external_data=False)
        )
    except (DecodeError, OSError):
        return  # the runtime will say it
    nodes = [*proto.graph.node, *(node for each in proto.functions for node in each.node)]
    if any(node.op_type == _OP for node in _all(nodes)):
        raise TargetError(
            f"the model has an {_OP} op, which carries code compiled elsewhere that nobody can "
            "check; compile from the model that it was made of"
        )


def _mentions(model: bytes | Path) -> bool:
    if isinstance(model, bytes):
        return _OP.encode() in model
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(_OP.encode()) >= 0
    except (OSError, ValueError):  # missing or empty
        return False


def _all(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    stack = nodes
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack += graph.node
