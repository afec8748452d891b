"""Which ops of the ONNX graph a node of OpenVINO's graph came from.

OpenVINO calls what it makes of a node after the node, with an ending such as ``/WithoutBiases`` for
a part of it, or after a graph output that the node writes. So that these names can be told from
others, whatever the model calls its nodes, a copy of the model is read whose nodes are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx

from partc.ir.program import Program

_NUMBERED = re.compile(r"^partc_op_(\d+)(?:\D.*)?$", re.DOTALL)


@dataclass(frozen=True)
class Numbered:
    """A model and its copy with numbered nodes.

    Attributes:
        program: the original.
    """

    program: Program

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The copy."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.program.model)
        for number, node in enumerate(copy.graph.node):
            node.name = f"partc_op_{number}"
        return copy

    @cached_property
    def _by_output(self) -> Mapping[str, str]:
        producer = self.program.producer
        return {name: producer[name].name for name in self.program.outputs if name in producer}

    def op(self, name: str) -> str | None:
        """The op that a name of OpenVINO's speaks of; None if it is OpenVINO's own."""
        if name in self._by_output:
            return self._by_output[name]
        found = _NUMBERED.match(name)
        if found is not None and int(found[1]) < len(self.program.ops):
            return self.program.ops[int(found[1])].name
        stem = name.rpartition("/")[0]  # y/sink_port_0, y/WithoutBiases
        return self._by_output.get(stem)
