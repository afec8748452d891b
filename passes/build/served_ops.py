"""Which op of a model each node works for, after the model was rewritten in another precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import onnx

from partc.targets.onnxruntime.quantize import QUANTISED_OPS

_BETWEEN = frozenset(("Cast", "DequantizeLinear", "QuantizeLinear"))


def served_ops(original: onnx.ModelProto, rewritten: onnx.ModelProto) -> dict[str, str]:
    """Node of ``rewritten`` -> the op of ``original`` that is there by the same name, or for whose
    sake the node is there.

    A cast is there for the op that reads what it gives, and behind the last op for that one.
    Quantisation is there for the convolution or product beside it: behind one for that one, else
    for the one that reads it.
    """
    return _Serving(original, rewritten).all()


class _Serving:
    def __init__(self, original: onnx.ModelProto, rewritten: onnx.ModelProto) -> None:
        self._ops = {node.name: node for node in original.graph.node}
        self._writer: dict[str, str] = {
            t: node.name for node in original.graph.node for t in node.output if t
        }
        self._nodes = {node.name: node for node in rewritten.graph.node}

    def all(self) -> dict[str, str]:
        return {
            name: op for name in self._nodes if (op := self._served(self._nodes[name])) is not None
        }

    def _served(self, node: onnx.NodeProto) -> str | None:
        if node.name in self._ops:
            return str(node.name)
        if node.op_type not in _BETWEEN:  # stands for an op that another opset writes otherwise
            for tensor in node.output:
                if tensor in self._writer:
                    return self._writer[tensor]
        readers = list(self._found(node, self._readers))
        writers = list(self._found(node, self._writers))
        if node.op_type == "QuantizeLinear":
            wanted = [*self._dense(writers), *self._dense(readers)]
        elif node.op_type == "DequantizeLinear":
            wanted = [*self._dense(readers), *self._dense(writers)]
        else:
            wanted = []
        return next(iter((*wanted, *readers, *writers)), None)

    def _dense(self, names: list[str]) -> list[str]:
        return [name for name in names if self._ops[name].op_type in QUANTISED_OPS]

    def _found(
        self, node: onnx.NodeProto, neighbours: Callable[[onnx.NodeProto], list[onnx.NodeProto]]
    ) -> Iterator[str]:
        """The ops that are reached in one direction through new nodes alone, the nearest first."""
        seen, queue = {node.name}, [node]
        while queue:
            for each in neighbours(queue.pop(0)):
                if each.name in seen:
                    continue
                seen.add(each.name)
                if each.name in self._ops:
                    yield each.name
                else:
                    queue.append(each)

    @cached_property
    def _reading(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes.values():
            for tensor in _reads(node):
                found.setdefault(tensor, []).append(node)
        return found

    @cached_property
    def _writing(self) -> dict[str, onnx.NodeProto]:
        return {t: node for node in self._nodes.values() for t in node.output if t}

    def _readers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [reader for tensor in node.output for reader in self._reading.get(tensor, ())]

    def _writers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [self._writing[tensor] for tensor in node.input if tensor in self._writing]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what the bodies within it take from around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for each in body.node:
                yield from _reads(each)
            yield from (value.name for value in body.output)
