"""The one place that edits ONNX graphs, by onnx-graphsurgeon.

Graphsurgeon rebuilds every node from its own view of it, which loses attributes that are empty
lists, metadata and the weights that only a body reads. What it rebuilt is therefore put back
from the original nodes, and missing weights are added, before a model leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from partc.errors import ModelError
from partc.ir.program import Array, captured_names

OLDEST_IR_VERSION = 4  # up to 3, initializers had to be listed as inputs


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sort, drop what no output needs, name every node, and keep weights out of the inputs.

    Unnamed nodes become ``<op type>_<index>``, repeated names get a number, an output that is
    an initializer gets an Identity as its producer.

    Raises:
        ModelError: graphsurgeon cannot read the graph.
    """
    model = _copy_with_unique_names(model)
    _give_weights_that_are_outputs_a_producer(model)
    graph = _import(model)
    graph.toposort()
    return _export(graph, model)


def replace_by_constants(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with tensors replaced by initializers, and without the ops that made them."""
    graph = _import(model)
    tensors = graph.tensors()
    for body in graph.subgraphs(recursive=True):
        for name, tensor in body.tensors().items():
            tensors.setdefault(name, tensor)
    for name, value in values.items():
        tensor = tensors[name]
        tensor.to_constant(np.asarray(value, order="C"))
        tensor.inputs.clear()
    return _export(graph, model)


def extract(
    model: onnx.ModelProto,
    node_names: Iterable[str],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    name: str,
) -> onnx.ModelProto:
    """The nodes named, in their order, as a model of its own with the weights that they read."""
    return Extractor(model).extract(node_names, inputs, outputs, name)


class Extractor:
    """Cuts several models out of one without importing it each time."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._graph = _import(model)
        self._nodes = {node.name: node for node in self._graph.nodes}

    def extract(
        self,
        node_names: Iterable[str],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        name: str,
    ) -> onnx.ModelProto:
        """See `extract`."""
        wanted = set(node_names)
        part = gs.Graph(
            nodes=[node for key, node in self._nodes.items() if key in wanted],
            name=name,
            opset=self._graph.opset,
            import_domains=self._graph.import_domains,
            functions=self._graph.functions,
            ir_version=self._graph.ir_version,
        )
        part.producer_name, part.producer_version = "partc", ""
        cut: onnx.ModelProto = gs.export_onnx(part, do_type_check=False)
        cut.graph.input.extend(inputs)
        cut.graph.output.extend(outputs)
        _repair(cut, self._model)
        _keep_used_functions(cut)
        return cut


def with_outputs(model: onnx.ModelProto, outputs: Iterable[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The model with more outputs; weights are shared with ``model`` until serialised."""
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    present = {output.name for output in widened.graph.output}
    widened.graph.output.extend(o for o in outputs if o.name not in present)
    return widened


def _import(model: onnx.ModelProto) -> gs.Graph:
    try:
        return gs.import_onnx(model)
    except Exception as error:  # graphsurgeon raises whatever its parsing meets
        raise ModelError(f"the graph cannot be read for editing: {error}") from error


def _export(graph: gs.Graph, original: onnx.ModelProto) -> onnx.ModelProto:
    graph.cleanup(recurse_subgraphs=False, recurse_functions=False)
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    _copy_signature(original, model)
    _repair(model, original)
    model.ir_version = max(original.ir_version, OLDEST_IR_VERSION)
    model.metadata_props.extend(original.metadata_props)
    return model


def _copy_signature(original: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Inputs and outputs exactly as they were, less the weights among the inputs."""
    weights = {w.name for w in original.graph.initializer}
    weights |= {w.values.name for w in original.graph.sparse_initializer}
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.extend(i for i in original.graph.input if i.name not in weights)
    model.graph.output.extend(original.graph.output)


def _repair(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    nodes = {node.name: node for node in original.graph.node}
    for node in model.graph.node:
        if node.name in nodes:
            node.CopyFrom(nodes[node.name])
    del model.functions[:]
    model.functions.extend(original.functions)
    del model.opset_import[:]
    model.opset_import.extend(original.opset_import)
    _add_missing_weights(model, original)


def _add_missing_weights(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    graph = model.graph
    known = {w.name for w in graph.initializer} | {i.name for i in graph.input}
    known |= {w.values.name for w in graph.sparse_initializer}
    known.update(name for node in graph.node for name in node.output)
    read = {name for node in graph.node for name in (*node.input, *captured_names(node))}
    graph.initializer.extend(
        weight for weight in original.graph.initializer if weight.name in read - known
    )
    graph.sparse_initializer.extend(
        weight for weight in original.graph.sparse_initializer if weight.values.name in read - known
    )


def _keep_used_functions(model: onnx.ModelProto) -> None:
    used: set[tuple[str, str]] = set()
    functions = {(f.domain, f.name): f for f in model.functions}
    stack = list(model.graph.node)
    while stack:
        node = stack.pop()
        key = (node.domain, node.op_type)
        if key in functions and key not in used:
            used.add(key)
            stack.extend(functions[key].node)
        for attribute in node.attribute:
            stack.extend(attribute.g.node)
            for body in attribute.graphs:
                stack.extend(body.node)
    kept = [f for f in model.functions if (f.domain, f.name) in used]
    del model.functions[:]
    model.functions.extend(kept)


def _copy_with_unique_names(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = {node.name for node in copy.graph.node if node.name}
    seen: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        wanted = node.name or f"{node.op_type}_{index}"
        name, number = wanted, 0
        while name in seen or (name != node.name and name in taken):
            number += 1
            name = f"{wanted}_{number}"
        seen.add(name)
        node.name = name
    return copy


def _give_weights_that_are_outputs_a_producer(model: onnx.ModelProto) -> None:
    graph = model.graph
    outputs = {output.name for output in graph.output}
    taken = {node.name for node in graph.node} | {w.name for w in graph.initializer}
    for weight in graph.initializer:
        if weight.name not in outputs:
            continue
        output, name = weight.name, f"{weight.name}_value"
        while name in taken:
            name += "_"
        taken.add(name)
        weight.name = name
        for node in graph.node:
            _rename_reads(node, output, name)
        for index, graph_input in reversed(list(enumerate(graph.input))):
            if graph_input.name == output:
                del graph.input[index]
        graph.node.append(
            onnx.helper.make_node("Identity", [name], [output], name=f"Identity_{name}")
        )


def _rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    if old not in set(captured_names(node)):
        return
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                _rename_reads(inner, old, new)
            for output in body.output:
                if output.name == old:
                    output.name = new
