"""What every later step may rely on, brought about on the ONNX message itself.

Names are unique, no output is listed twice, and every output that is no input is written by an
op that has a host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx

from partc.ir.program import Program, captured_names


def with_unique_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which unnamed nodes are ``<op type>_<index>`` and repeated names
    have a number.

    ONNX's checker accepts two nodes of one name; ONNX Runtime does not.
    """
    counts = Counter(node.name for node in model.graph.node)
    if "" not in counts and all(count == 1 for count in counts.values()):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        wanted = node.name or f"{node.op_type}_{index}"
        name, number = wanted, 0
        while name in seen or (name != node.name and name in counts):
            number += 1
            name = f"{wanted}_{number}"
        seen.add(name)
        node.name = name
    return copy


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in the form that this module's heading describes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(with_unique_names(model))
    _drop_repeated_outputs(copy.graph)
    _give_constant_outputs_a_producer(copy)
    return copy


def _drop_repeated_outputs(graph: onnx.GraphProto) -> None:
    seen: set[str] = set()
    for index, output in reversed(list(enumerate(graph.output))):
        if output.name in seen:
            del graph.output[index]
        seen.add(output.name)


def _give_constant_outputs_a_producer(model: onnx.ModelProto) -> None:
    """An output that depends on weights alone becomes a copy of the constant, made by Identity.

    The copy has a host and is sent where it is wanted, while the constant itself stays free to
    be folded, and to be computed by every host that reads it.
    """
    graph = model.graph
    constant = _constants(model)
    names = _Names(model)
    for output in graph.output:
        if output.name not in constant:
            continue
        value = names.unused(f"{output.name}_value")
        _rename(graph, output.name, value)
        node_name = names.unused(f"Identity_{value}")
        graph.node.append(onnx.helper.make_node("Identity", [value], [output.name], name=node_name))


def _constants(model: onnx.ModelProto) -> set[str]:
    """Weights and tensors that depend on them alone, were they outputs or not."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    program = Program(model=model)
    constants = {*program.constant_tensors, *program.weights}
    model.graph.output.extend(outputs)
    return constants


class _Names:
    """Every name that a model uses, in its bodies too."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken = set(_all_names(model.graph))

    def unused(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def _all_names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    yield from (weight.values.name for weight in graph.sparse_initializer)
    for node in graph.node:
        yield node.name
        yield from node.input
        yield from node.output
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _all_names(body)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for weight in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        if weight.name == old:
            weight.name = new
    for index, value in reversed(list(enumerate(graph.input))):
        if value.name == old:  # a weight that is listed as an input, as IR version 3 wants it
            del graph.input[index]
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = new
        _rename_reads(node, old, new)


def _rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    captured = set(captured_names(node))
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    if old not in captured:
        return
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                _rename_reads(inner, old, new)
            for output in body.output:
                if output.name == old:
                    output.name = new
