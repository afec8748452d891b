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
from onnx_graphsurgeon.logger import G_LOGGER

from partc.errors import ModelError
from partc.ir.program import Array, captured_names

# Graphsurgeon logs to standard output, which belongs to the result of a command.
G_LOGGER.severity = G_LOGGER.CRITICAL

OLDEST_IR_VERSION = 4  # up to 3, initializers had to be listed as inputs


def sorted_and_pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an order in which it can run, without what no output needs, and with no
    weight among its inputs.

    Raises:
        ModelError: graphsurgeon cannot read the graph.
    """
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
    # A value that only bodies read is written by graphsurgeon into them, where it is lost.
    folded = (
        onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in values.items()
    )
    return _export(graph, model, folded)


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


def _export(
    graph: gs.Graph, original: onnx.ModelProto, new_weights: Iterable[onnx.TensorProto] = ()
) -> onnx.ModelProto:
    graph.cleanup(recurse_subgraphs=False, recurse_functions=False)
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    _copy_signature(original, model)
    _repair(model, original, new_weights)
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


def _repair(
    model: onnx.ModelProto, original: onnx.ModelProto, new_weights: Iterable[onnx.TensorProto] = ()
) -> None:
    nodes = {node.name: node for node in original.graph.node}
    for node in model.graph.node:
        if node.name in nodes:
            node.CopyFrom(nodes[node.name])
    del model.functions[:]
    model.functions.extend(original.functions)
    del model.opset_import[:]
    model.opset_import.extend(original.opset_import)
    _add_missing_weights(model, original, new_weights)


def _add_missing_weights(
    model: onnx.ModelProto, original: onnx.ModelProto, new_weights: Iterable[onnx.TensorProto]
) -> None:
    graph = model.graph
    known = {w.name for w in graph.initializer} | {i.name for i in graph.input}
    known |= {w.values.name for w in graph.sparse_initializer}
    known.update(name for node in graph.node for name in node.output)
    read = {name for node in graph.node for name in (*node.input, *captured_names(node))}
    missing = read - known
    graph.initializer.extend(
        weight for weight in (*original.graph.initializer, *new_weights) if weight.name in missing
    )
    graph.sparse_initializer.extend(
        weight for weight in original.graph.sparse_initializer if weight.values.name in missing
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
