"""Which ops ONNX Runtime runs as one kernel, read off the graph that it optimised.

A kernel of the optimised graph still carries the name of an original tensor: in its output, or,
after the NCHWc layout transformation, in its own name (an output of the fused operator and
``_nchwc``). The op that writes that tensor is the kernel's anchor. Ops that are no anchor have
vanished, most of them into the one kernel ahead of them that has an anchor. Two kinds vanish into
the kernel behind: the residual addition that a convolution takes as a fourth input, and the
activation that a kernel names in an attribute.

In a model of a lower precision kernels have further names: where the processor has no kernel of
that type, casts are put around one of float32, whose output is then named after the original one
behind `InsertedPrecisionFreeCast_`; a quantised kernel keeps the name of its op, with a number.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from partc.ir.program import Op, Program
from partc.targets.loading import loadable
from partc.targets.onnxruntime.runner import open_session, session_options
from partc.targets.protocol import RunSettings
from partc.targets.shaping import shaping_ops

_RESIDUAL = frozenset(("Add", "Sum"))
_CONV_INPUTS = 3
_LAYOUT_SUFFIX = "_nchwc"
_CAST_PREFIX = "InsertedPrecisionFreeCast_"
_NUMBER = re.compile(r"_token_[0-9]+$")


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
        return _Grouping(self).of_two_or_more()

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
            op = self.program.producer.get(tensor) or self.program.producer.get(
                tensor.removeprefix(_CAST_PREFIX)
            )
            if op is not None and not op.is_constant:
                return op.name
        for name in (named, named.split("/")[0], _NUMBER.sub("", named)):
            op = self.program.op_by_name.get(name)
            if op is not None:
                return None if op.is_constant else op.name
        return None

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
        with loadable(model) as source:
            open_session(source, options, settings)
        optimised = onnx.load(saved, load_external_data=False)
    return OptimisedModel(Program(model=model), tuple(optimised.graph.node))


class _Grouping:
    """Finds for every op that vanished the kernel that does its work."""

    def __init__(self, optimised: OptimisedModel) -> None:
        self._program = optimised.program
        self._groups = _Groups(op.name for op in self._program.placed_ops)
        self._position = {op.name: index for index, op in enumerate(self._program.ops)}
        self._anchors: set[str] = set()
        self._adders: set[str] = set()
        self._activations: dict[str, str] = {}
        for kernel, anchor in zip(optimised.kernels, optimised.anchors, strict=True):
            if anchor is not None:
                self._note(kernel, self._program.op_by_name[anchor])
        shaping = shaping_ops(self._program)
        for op in self._program.placed_ops:
            if op.name not in self._anchors and op.name not in shaping:
                for other in self._absorbing(op):
                    if other not in shaping:
                        self._groups.join(op.name, other)

    def of_two_or_more(self) -> list[tuple[str, ...]]:
        """The groups."""
        return self._groups.of_two_or_more()

    def _note(self, kernel: onnx.NodeProto, anchor: Op) -> None:
        self._anchors.add(anchor.name)
        if kernel.op_type == "Conv" and len(kernel.input) > _CONV_INPUTS:
            self._adders.add(anchor.name)
        for attribute in kernel.attribute:
            if attribute.name == "activation" and attribute.s.decode() != anchor.op_type:
                self._activations[anchor.name] = attribute.s.decode()

    def _absorbing(self, op: Op) -> list[str]:
        """The neighbours in whose kernel the op vanished."""
        producers = self._producers(op)
        if op.op_type in _RESIDUAL:
            for producer in reversed(producers):
                if adders := self._groups.members(producer.name) & self._adders:
                    self._adders -= adders  # a kernel adds one residual
                    return [producer.name]
        for producer in producers:
            for anchor in self._groups.members(producer.name):
                if self._activations.get(anchor) == op.op_type:
                    del self._activations[anchor]
                    return [producer.name]
        if len(self._anchors_ahead(op)) == 1:
            return [reader.name for reader in self._readers(op)]
        return [producers[-1].name] if producers else []

    def _producers(self, op: Op) -> list[Op]:
        """The ops with a host that ``op`` reads from, in the order of the graph."""
        found = {
            producer.name: producer
            for tensor in op.inputs
            if (producer := self._program.producer.get(tensor)) and not producer.is_constant
        }
        return sorted(found.values(), key=lambda producer: self._position[producer.name])

    def _readers(self, op: Op) -> list[Op]:
        return [reader for t in op.outputs for reader in self._program.consumers.get(t, ())]

    def _anchors_ahead(self, op: Op) -> set[str]:
        """The anchors that are reached through vanished ops alone."""
        found: set[str] = set()
        seen: set[str] = set()
        stack = [op]
        while stack:
            for reader in self._readers(stack.pop()):
                if reader.name in self._anchors:
                    found.add(reader.name)
                elif reader.name not in seen:
                    seen.add(reader.name)
                    stack.append(reader)
        return found


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

    def of_two_or_more(self) -> list[tuple[str, ...]]:
        return [tuple(sorted(m)) for m in self._members.values() if len(m) > 1]
