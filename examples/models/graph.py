"""Writing an ONNX graph node by node, with the names that exporters give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8

BATCH = "N"
"""The name of the batch dimension that every model leaves open."""


class GraphBuilder:
    """Collects the nodes, weights, inputs and outputs of one graph.

    A node is named after where it stands, as PyTorch's exporter does it: the first Conv of
    scope `stem` is `/stem/Conv`, the second `/stem/Conv_1`, and its output `/stem/Conv_output_0`.
    All random weights come from `rng`, so a seed decides the whole model.
    """

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.name = name
        self.rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names_used: dict[str, int] = {}

    def input(self, name: str, dtype: int, shape: Sequence[int | str] | None) -> str:
        """Declare a graph input; a string in `shape` is a dynamic dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str] | None) -> None:
        """Declare the tensor `name` a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def weight(self, name: str, values: npt.ArrayLike) -> str:
        """Store an initializer; Python floats become float32 and Python ints int64."""
        array = np.asarray(values)
        if not isinstance(values, np.ndarray | np.generic) and array.dtype == np.float64:
            array = array.astype(np.float32)
        if name in self._initializers:
            raise ValueError(f"the graph {self.name} already has an initializer {name}")
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def normal(self, name: str, shape: Sequence[int], std: float) -> str:
        """Store a float32 initializer drawn from a normal distribution around 0."""
        values = self.rng.standard_normal(tuple(shape), dtype=np.float32) * np.float32(std)
        return self.weight(name, values)

    def op(
        self,
        op_type: str,
        inputs: Sequence[str],
        scope: str = "",
        *,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Append a node with one output and return that output's name."""
        names = None if output is None else [output]
        return self.op_outputs(op_type, inputs, scope, outputs=names, **attributes)[0]

    def op_outputs(
        self,
        op_type: str,
        inputs: Sequence[str],
        scope: str = "",
        *,
        count: int = 1,
        outputs: Sequence[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Append a node with several outputs and return their names."""
        node_name = self._unique(f"/{scope}/{op_type}" if scope else f"/{op_type}")
        names = list(outputs or (f"{node_name}_output_{i}" for i in range(count)))
        self._nodes.append(
            helper.make_node(op_type, list(inputs), names, name=node_name, **attributes)
        )
        return names

    def body(self, name: str) -> GraphBuilder:
        """Start the body of an If, Loop or Scan, whose nodes may name this graph's tensors."""
        return GraphBuilder(name, self.rng)

    def graph(self) -> onnx.GraphProto:
        """Finish as a graph, to be the attribute of a control-flow node."""
        return helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            initializer=list(self._initializers.values()),
        )

    def model(self) -> onnx.ModelProto:
        """Finish as a model."""
        return helper.make_model(
            self.graph(),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="partc-examples",
        )

    def _unique(self, name: str) -> str:
        seen = self._names_used.get(name, 0)
        self._names_used[name] = seen + 1
        return f"{name}_{seen}" if seen else name
