"""Nodes of a rewritten program: what they read, what size their tensors have, their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from typing import TypeVar

import onnx

from partc.errors import PassError
from partc.ir.program import captured_names
from partc.ir.tensor import Dim, TensorInfo

_Side = TypeVar("_Side", bound=Dim)


def resized(info: TensorInfo, name: str, sizes: Mapping[int, int]) -> TensorInfo:
    """What is known of a tensor of other sizes along some axes."""

    def changed(shape: tuple[_Side, ...]) -> tuple[_Side | int, ...]:
        return tuple(sizes.get(axis, side) for axis, side in enumerate(shape))

    return replace(
        info,
        name=name,
        shape=None if info.shape is None else changed(info.shape),
        planned_shape=None if info.planned_shape is None else changed(info.planned_shape),
    )


def rename_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node and its bodies read tensors under other names."""
    if not names:
        return
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*body.input, *body.initializer)}
            own.update(name for inner in body.node for name in inner.output)
            visible = {old: new for old, new in names.items() if old not in own}
            for inner in body.node:
                rename_reads(inner, visible)
            for output in body.output:
                output.name = visible.get(output.name, output.name)


def in_running_order(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """In an order in which they can run, as near as possible to the one given."""
    ordered = list(nodes)
    writer = {name: i for i, node in enumerate(ordered) for name in node.output if name}
    waiting: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(ordered):
        needed = {writer[n] for n in (*node.input, *captured_names(node)) if n in writer}
        waiting.append(needed)
        for source in needed:
            readers.setdefault(source, []).append(i)
    ready = [i for i, needed in enumerate(waiting) if not needed]
    found: list[onnx.NodeProto] = []
    while ready:
        i = heappop(ready)
        found.append(ordered[i])
        for reader in readers.get(i, ()):
            waiting[reader].discard(i)
            if not waiting[reader]:
                heappush(ready, reader)
    if len(found) != len(ordered):
        raise PassError("the tiles wait for each other in a circle; this is a defect of the pass")
    return found
