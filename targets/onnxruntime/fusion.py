"""Which ops ONNX Runtime runs as one kernel, read off the graph that it optimised.

A kernel of the optimised graph still carries the name of an original tensor: in its output, or,
after the NCHWc layout transformation, in its own name (the fused operator's last output and
``_nchwc``). The op that writes that tensor is the kernel's anchor. Ops that are no anchor have
vanished: into the kernel before them (activations, residual additions) or into the one after.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from partc.ir.program import Op, Program
from partc.targets.onnxruntime.runner import open_session, session_options
from partc.targets.protocol import RunSettings

# ONNX Runtime applies these to the result of the convolution or product before them.
_APPLIED_AFTER = frozenset(
    (
        "BatchNormalization",
        "Clip",
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "HardSigmoid",
        "HardSwish",
        "Mul",
        "Div",
        "Identity",
        "Dropout",
    )
)
_RESIDUAL = frozenset(("Add", "Sum"))
_LAYOUT_SUFFIX = "_nchwc"


@dataclass(frozen=True)
class OptimisedModel:
    """The optimised graph and how it maps back.

    Attributes:
        program: the original.
        kernels: nodes of the optimised graph, in order.
    """

    program: Program
    kernels: tuple[onnx.NodeProto, ...]

    @cached_property
    def anchors(self) -> tuple[str | None, ...]:
        """For each kernel the op that it is known by, or None."""
        return tuple(self._anchor(kernel) for kernel in self.kernels)

    @cached_property
    def groups(self) -> list[tuple[str, ...]]:
        """Sets of two or more ops that run as one kernel."""
        groups = _Groups(op.name for op in self.program.placed_ops)
        anchors = {anchor for anchor in self.anchors if anchor is not None}
        adders = {
            anchor
            for kernel, anchor in zip(self.kernels, self.anchors, strict=True)
            if anchor is not None and kernel.op_type == "Conv" and len(kernel.input) > 3
        }
        for op in self.program.placed_ops:
            if op.name not in anchors:
                for other in self._absorbing(op, anchors, adders, groups):
                    groups.join(op.name, other)
        return groups.of_two_or_more()

    def op_of(self, kernel_index: int) -> str | None:
        """The op to which a kernel's time belongs: its anchor's, or the next one's that has one.

        Layout reorders and kernels inside of functions have no anchor of their own.
        """
        seen, queue = {kernel_index}, [kernel_index]
        while queue:
            index = queue.pop(0)
            if self.anchors[index] is not None:
                return self.anchors[index]
            for reader in self._readers(index):
                if reader not in seen:
                    seen.add(reader)
                    queue.append(reader)
        for index in range(kernel_index, -1, -1):
            if self.anchors[index] is not None:
                return self.anchors[index]
        placed = self.program.placed_ops
        return placed[-1].name if placed else None

    def _anchor(self, kernel: onnx.NodeProto) -> str | None:
        named = kernel.name.removesuffix(_LAYOUT_SUFFIX)
        for tensor in (*kernel.output, named):
            op = self.program.producer.get(tensor)
            if op is not None and not op.is_constant:
                return op.name
        name = named.split("/")[0] if named not in self.program.op_by_name else named
        op = self.program.op_by_name.get(name)
        return op.name if op is not None and not op.is_constant else None

    def _absorbing(
        self, op: Op, anchors: set[str], adders: set[str], groups: _Groups
    ) -> Iterator[str]:
        producers = [
            self.program.producer[tensor]
            for tensor in op.inputs
            if tensor in self.program.producer and not self.program.producer[tensor].is_constant
        ]
        if op.op_type in _RESIDUAL:
            for producer in sorted(producers, key=self._position, reverse=True):
                if groups.meets(producer.name, adders):
                    adders -= groups.members(producer.name)  # a kernel adds one residual
                    yield producer.name
                    return
        elif op.op_type in _APPLIED_AFTER and producers:
            yield producers[0].name
            return
        ahead = self._anchors_ahead(op, anchors)
        if len(ahead) == 1:
            readers = [r for tensor in op.outputs for r in self.program.consumers.get(tensor, ())]
            yield from (reader.name for reader in readers)
        elif producers:
            yield producers[-1].name

    def _position(self, op: Op) -> int:
        return self._positions[op.name]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {op.name: index for index, op in enumerate(self.program.ops)}

    def _anchors_ahead(self, op: Op, anchors: set[str]) -> set[str]:
        found: set[str] = set()
        seen: set[str] = set()
        stack = [op]
        while stack:
            current = stack.pop()
            for tensor in current.outputs:
                for reader in self.program.consumers.get(tensor, ()):
                    if reader.name in anchors:
                        found.add(reader.name)
                    elif reader.name not in seen:
                        seen.add(reader.name)
                        stack.append(reader)
        return found

    @cached_property
    def _reader_lists(self) -> dict[str, list[int]]:
        readers: dict[str, list[int]] = {}
        for index, kernel in enumerate(self.kernels):
            for tensor in kernel.input:
                readers.setdefault(tensor, []).append(index)
        return readers

    def _readers(self, index: int) -> list[int]:
        return [r for t in self.kernels[index].output for r in self._reader_lists.get(t, [])]

    def kernel_by_event(self, names: Iterable[str]) -> Iterator[int | None]:
        """For the kernel names of one run, in order, the index of each kernel.

        Names may repeat (``ReorderOutput``); they then count up in the order of the graph.
        """
        by_name: dict[str, list[int]] = {}
        for index, kernel in enumerate(self.kernels):
            by_name.setdefault(kernel.name, []).append(index)
        used: Counter[str] = Counter()
        for name in names:
            candidates = by_name.get(name, [])
            yield candidates[min(used[name], len(candidates) - 1)] if candidates else None
            used[name] += 1


def optimise(model: onnx.ModelProto, settings: RunSettings) -> OptimisedModel:
    """Let ONNX Runtime optimise ``model`` as it does on deployment, and read the result.

    Raises:
        TargetError: ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        saved = Path(folder) / "optimised.onnx"
        options = session_options(settings)
        options.optimized_model_filepath = str(saved)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "weights.bin"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
        )
        source: bytes | Path
        if model.ByteSize() < 2**31 - 2**20:
            source = model.SerializeToString()
        else:
            source = Path(folder) / "model.onnx"
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            onnx.save(copy, source, save_as_external_data=True, location="model.data")
        open_session(source, options)
        optimised = onnx.load(saved, load_external_data=False)
    return OptimisedModel(Program(model=model), tuple(optimised.graph.node))


class _Groups:
    """Disjoint sets of op names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}
        self._members = {name: {name} for name in self._parent}

    def find(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, one: str, other: str) -> None:
        if one not in self._parent or other not in self._parent:
            return
        one, other = self.find(one), self.find(other)
        if one != other:
            self._parent[other] = one
            self._members[one] |= self._members.pop(other)

    def members(self, name: str) -> set[str]:
        return self._members[self.find(name)]

    def meets(self, name: str, names: set[str]) -> bool:
        return bool(self.members(name) & names)

    def of_two_or_more(self) -> list[tuple[str, ...]]:
        return [tuple(sorted(m)) for m in self._members.values() if len(m) > 1]
