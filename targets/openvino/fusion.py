"""Which ops OpenVINO runs as one kernel, read off the compiled model.

Every node of the runtime model lists the layers that it came from. Nodes that OpenVINO put in
itself, to change a layout or as a part of an op that it took apart, list none: their time belongs
to the op that they feed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx

from partc.ir.program import Program
from partc.targets.loading import loadable
from partc.targets.openvino.compiling import compile_model, read_model
from partc.targets.openvino.naming import Numbered
from partc.targets.protocol import RunSettings
from partc.targets.shaping import shaping_ops

_LAYERS = "originalLayersNames"


@dataclass(frozen=True)
class Kernel:
    """A node of the runtime model.

    Attributes:
        ops: those that it came from and that need a host; empty for OpenVINO's own.
        readers: names of the kernels that read from it.
    """

    name: str
    ops: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class RuntimeModel:
    """The kernels that run, in their order."""

    program: Program
    kernels: tuple[Kernel, ...]

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Groups of two or more ops that run as one kernel; they may share ops."""
        groups = [kernel.ops for kernel in self.kernels if len(kernel.ops) > 1]
        named = {op for kernel in self.kernels for op in kernel.ops}
        shaping = shaping_ops(self.program)
        for op in self.program.placed_ops:
            if op.name in named or op.name in shaping:
                continue
            # What replaced several ops is named after the last of them: a convolution that took up
            # a normalisation, an activation that was written out as a formula.
            readers = {r.name for t in op.outputs for r in self.program.consumers.get(t, ())}
            if len(readers) == 1 and not readers & shaping:
                groups.append((op.name, *readers))
        return groups

    @cached_property
    def _by_name(self) -> Mapping[str, Kernel]:
        return {kernel.name: kernel for kernel in self.kernels}

    def op_of(self, name: str) -> str | None:
        """The op to which a kernel's time belongs: its own, or the next one's that has one."""
        seen, queue = {name}, [name]
        while queue:
            kernel = self._by_name.get(queue.pop(0))
            if kernel is None:
                continue
            if kernel.ops:
                return kernel.ops[0]
            for reader in kernel.readers:
                if reader not in seen:
                    seen.add(reader)
                    queue.append(reader)
        before = None
        for kernel in self.kernels:
            before = kernel.ops[0] if kernel.ops else before
            if kernel.name == name:
                break
        placed = self.program.placed_ops
        return before or (placed[-1].name if placed else None)


def runtime_model(compiled: Any, numbered: Numbered) -> RuntimeModel:
    """What the plug-in made of a model with numbered nodes."""
    program = numbered.program
    placed = {op.name for op in program.placed_ops}
    kernels = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        name = node.get_friendly_name()
        info = node.get_rt_info()
        layers = str(info[_LAYERS].astype(str)) if _LAYERS in info else name
        found = dict.fromkeys(op for op in _ops(layers, numbered) if op in placed)
        readers = [
            target.get_node().get_friendly_name()
            for output in node.outputs()
            for target in output.get_target_inputs()
        ]
        kernels.append(Kernel(name, tuple(found), tuple(readers)))
    return RuntimeModel(program, tuple(kernels))


def _ops(layers: str, numbered: Numbered) -> Iterator[str]:
    """Names of layers are joined by commas, which may be in a graph output's name as well."""
    whole = numbered.op(layers)
    if whole is not None and "," not in layers.removeprefix("partc_op_"):
        yield whole
        return
    for layer in layers.split(","):
        op = numbered.op(layer)
        if op is not None:
            yield op


def fused_groups(model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
    """Groups of two or more nodes that OpenVINO runs as one kernel.

    Raises:
        TargetError: OpenVINO refuses the model.
    """
    numbered = Numbered(Program(model=model))
    with loadable(numbered.model) as source:
        compiled = compile_model(read_model(source), settings)
        return runtime_model(compiled, numbered).groups
