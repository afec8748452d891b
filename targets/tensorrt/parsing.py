"""What the real parser makes of a graph. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.log import make_logger
from partc.targets.tensorrt.value_shapes import never_given

TENSOR_TYPES = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT8E4M3FN,
    onnx.TensorProto.INT4,
}  # fmt: skip
"""Types that stay what they are in an engine. Doubles are computed as floats without a word."""

_LONGEST = 160


def refused_nodes(library: Library, path: Path) -> dict[str, str]:
    """Node name -> why, for nodes of the graph that no engine can hold.

    A parser stops looking closely once one node is refused, so what remains is asked again until
    everything left is accepted. What it says of a node behind a refused one may only follow from
    that, so it counts where it is of the op whatever it reads.
    """
    trt = library.load()
    model = onnx.load(path)
    graph = _Graph(model)
    refused = dict(graph.of_foreign_types(library.title))
    remaining = [i for i, node in enumerate(model.graph.node) if node.name not in refused]
    queue = [remaining] if refused else [list(range(len(model.graph.node)))]
    whole = not refused
    while queue:
        indices = queue.pop()
        if not indices:
            continue
        part = model if whole else graph.part(indices)
        whole = False
        found, supported = _asked(trt, part, str(path), library.title)
        if not found and supported:
            continue
        bad = {i: reason for i, reason in found.items() if 0 <= i < len(indices)}
        if not bad:  # It does not say which; without a finer answer none of them can be trusted.
            reason = next((e.text for e in found.values()), f"{library.title}'s parser refuses it")
            if len(indices) == 1:
                refused[model.graph.node[indices[0]].name] = reason
                continue
            middle = len(indices) // 2
            queue += [indices[:middle], indices[middle:]]
            continue
        own = graph.not_behind_others(indices, set(bad))
        own.update(i for i, reason in bad.items() if reason.is_of_any_such_op)
        for i in own:
            refused[model.graph.node[indices[i]].name] = bad[i].text
        queue.append([index for i, index in enumerate(indices) if i not in own])
    refused = {**never_given(model, library.title), **refused}
    return {name: reason for name, reason in refused.items() if name}


def foreign_types(model: onnx.ModelProto, title: str) -> Iterator[tuple[str, str]]:
    """Nodes that read or write what an engine would compute in another type, and why."""
    return _Graph(model).of_foreign_types(title)


@dataclass(frozen=True)
class _Reason:
    """Why a node is refused; whether any node of its op would be, whatever it reads."""

    text: str
    is_of_any_such_op: bool = False


def _asked(
    trt: Any, model: onnx.ModelProto, path: str, title: str
) -> tuple[dict[int, _Reason], bool]:
    """Node index -> why it is refused; and whether the whole is accepted."""
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    # A fresh network for each question: a parser leaves what it understood in it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    supported = bool(parser.supports_model_v2(model.SerializeToString(), path))
    found: dict[int, _Reason] = {}
    for position in range(parser.num_errors):
        error = parser.get_error(position)
        found.setdefault(error.node(), _reason(error, title))
    return found, supported


def _reason(error: Any, title: str) -> _Reason:
    op = error.node_operator() or "this op"
    text = " ".join(error.desc().split())
    if text in ("false", ""):
        return _Reason(f"{title} has no implementation of {op}", is_of_any_such_op=True)
    if "Plugin not found" in text:
        said = f"{title} knows no op {op!r}, and no plugin has that name"
        return _Reason(said, is_of_any_such_op=True)
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + " [...]"
    return _Reason(f"{title} refuses {op}: {short}")


class _Graph:
    """Nodes of a model with the types of what they read and write."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        typed = model
        if model.ByteSize() < 2**31 - 2**20:
            typed = onnx.shape_inference.infer_shapes(model)
        graph = typed.graph
        self._values = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
        self._weights = {w.name: w for w in model.graph.initializer}

    def of_foreign_types(self, title: str) -> Iterator[tuple[str, str]]:
        for node in self._model.graph.node:
            for name in (*node.input, *node.output):
                kind = self._type(name)
                if kind is not None and kind not in TENSOR_TYPES:
                    text = onnx.TensorProto.DataType.Name(kind).lower() if kind else "no tensor"
                    yield node.name, f"tensor {name!r} is {text}, which {title} does not compute in"
                    break

    def not_behind_others(self, indices: Sequence[int], chosen: set[int]) -> set[int]:
        """Those of ``chosen`` positions in ``indices`` that read nothing that others lead to."""
        behind: set[str] = set()
        found: set[int] = set()
        for position, index in enumerate(indices):
            node = self._model.graph.node[index]
            reached = any(name in behind for name in _reads(node) if name)
            if position in chosen and not reached:
                found.add(position)
            if position in chosen or reached:
                behind.update(node.output)
        return found

    def _type(self, name: str) -> int | None:
        if name in self._weights:
            return int(self._weights[name].data_type)
        value = self._values.get(name)
        if value is None:
            return None
        if not value.type.HasField("tensor_type"):
            return 0
        return int(value.type.tensor_type.elem_type) or None

    def part(self, indices: Sequence[int]) -> onnx.ModelProto:
        """Some of the nodes as a model; what others make becomes an input."""
        nodes = [self._model.graph.node[index] for index in indices]
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in _reads(node) if name)
        inputs = [
            self._values.get(name, onnx.ValueInfoProto(name=name))
            for name in read
            if name not in made and name not in self._weights
        ]
        consumed = {name for node in nodes for name in _reads(node)}
        outputs = [
            self._values.get(name, onnx.ValueInfoProto(name=name))
            for node in nodes
            for name in node.output
            if name and (name not in consumed or name in self._outputs)
        ]
        graph = onnx.GraphProto(name=self._model.graph.name)
        graph.node.extend(nodes)
        graph.input.extend(inputs)
        graph.output.extend(outputs)
        graph.initializer.extend(self._weights[name] for name in read if name in self._weights)
        model = onnx.ModelProto(ir_version=self._model.ir_version)
        model.graph.CopyFrom(graph)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        return model

    @property
    def _outputs(self) -> set[str]:
        return {output.name for output in self._model.graph.output}


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Inputs, and what bodies read from outside (names made inside are harmless)."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            inner = {name for each in body.node for name in each.output}
            inner |= {value.name for value in body.input}
            inner |= {weight.name for weight in body.initializer}
            for each in body.node:
                yield from (name for name in _reads(each) if name not in inner)
