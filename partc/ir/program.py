"""The program: an ONNX graph in normal form, and everything that passes have found out about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from partc.errors import ModelError
from partc.ir.codec_table import CodecTable
from partc.ir.cost import CostTable
from partc.ir.plan import Plan
from partc.ir.portfolio import Portfolio
from partc.ir.refusal import Refusal
from partc.ir.segment import Segment
from partc.ir.tensor import TensorInfo, element_bits
from partc.ir.tiling import Tiled

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


_STEERING_TYPES = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
_MOST_STEERING_ELEMENTS = 64


@dataclass(frozen=True)
class Op:
    """One node of the graph.

    Attributes:
        inputs: tensors it reads, its bodies' captures included; without weights.
        weights: initializers it reads, its bodies' captures included.
        is_constant: depends on nothing but weights and is no output, so every host that needs
            it computes it anew and it never crosses a link.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    is_constant: bool = False
    has_bodies: bool = False


@dataclass(frozen=True)
class Block:
    """Ops that a backend runs as one kernel: the unit of placement.

    Attributes:
        ops: in an order in which they can run.
        inputs, outputs: tensors that enter it, and tensors that others (or the user) read.
    """

    name: str
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How far one tensor of the partitioned program is from the whole model's."""

    tensor: str
    max_abs_error: float
    max_rel_error: float


@dataclass(frozen=True)
class Verification:
    """The comparison of the partitioned program with the whole model.

    Attributes:
        differences: one for each boundary tensor and each output.
        feeds, outputs: the golden pair.
        loss: of the outputs, with every transfer encoded as the plan says; relative, 0 where no
            transfer loses anything.
    """

    differences: tuple[Difference, ...]
    feeds: Mapping[str, Array]
    outputs: Mapping[str, Array]
    loss: float = 0.0

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference over all compared tensors."""
        return max((d.max_abs_error for d in self.differences), default=0.0)

    @property
    def max_rel_error(self) -> float:
        """Largest difference relative to the magnitude of its tensor."""
        return max((d.max_rel_error for d in self.differences), default=0.0)


@dataclass(frozen=True)
class Program:
    """A graph and its annotations. Passes return new programs and never change one in place.

    Attributes:
        model: every node is named, every name is unique, the IR version is 4 or more.
        original: the model as it was read, the reference for every answer.
        source: the file it came from, if any.
        bindings: input -> the shape given for planning.
        sample: input -> array the user gave, empty if none.
        tensors: every tensor's type and shape, once ``infer-shapes`` ran.
        blocks, costs, codecs, plan, segments, verification: None until their pass ran.
        portfolio: plans for changing conditions, where the topology declares any.
        notices: sentences the user should read.
        refusals: ops that a host cannot run.
        tiled: the program before ``tile`` rewrote it, and what each of its tensors is a part of.
    """

    model: onnx.ModelProto
    original: onnx.ModelProto | None = None
    source: Path | None = None
    bindings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sample: Mapping[str, Array] = field(default_factory=dict)
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    blocks: tuple[Block, ...] | None = None
    costs: CostTable | None = None
    codecs: CodecTable | None = None
    plan: Plan | None = None
    portfolio: Portfolio | None = None
    segments: tuple[Segment, ...] | None = None
    verification: Verification | None = None
    notices: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    tiled: Tiled | None = None

    @property
    def name(self) -> str:
        """The graph's name, or the file's."""
        return self.model.graph.name or (self.source.stem if self.source else "model")

    @cached_property
    def weights(self) -> Mapping[str, int]:
        """Initializers -> size in bytes."""
        sizes = {w.name: _initializer_bytes(w) for w in self.model.graph.initializer}
        for sparse in self.model.graph.sparse_initializer:
            sizes[sparse.values.name] = _initializer_bytes(sparse.values)
        return sizes

    @cached_property
    def weight_types(self) -> Mapping[str, str]:
        """Initializers -> element type and shape, as text that two equal ones share."""
        return {
            w.name: f"{w.data_type}[{','.join(map(str, w.dims))}]"
            for w in self.model.graph.initializer
        }

    @cached_property
    def steering_weights(self) -> Mapping[str, str]:
        """Small initializers of whole numbers or truth values, as text: shapes, axes, counts."""
        return {
            w.name: str(onnx.numpy_helper.to_array(w).tolist())
            for w in self.model.graph.initializer
            if w.data_type in _STEERING_TYPES and np.prod(w.dims) <= _MOST_STEERING_ELEMENTS
        }

    @cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """Op -> its node in the model."""
        return {node.name: node for node in self.model.graph.node}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Graph inputs, without initializers that are listed as inputs."""
        return tuple(i.name for i in self.model.graph.input if i.name not in self.weights)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Graph outputs."""
        return tuple(dict.fromkeys(o.name for o in self.model.graph.output))

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Every node, in the order of the graph."""
        return tuple(_ops(self.model, frozenset(self.weights)))

    @cached_property
    def op_by_name(self) -> Mapping[str, Op]:
        """Name -> op."""
        return {op.name: op for op in self.ops}

    @cached_property
    def placed_ops(self) -> tuple[Op, ...]:
        """The ops that need a host: all that are not constant."""
        return tuple(op for op in self.ops if not op.is_constant)

    @cached_property
    def producer(self) -> Mapping[str, Op]:
        """Tensor -> the op that writes it."""
        return {tensor: op for op in self.ops for tensor in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Op, ...]]:
        """Tensor -> the ops that read it."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for tensor in dict.fromkeys(op.inputs):
                found.setdefault(tensor, []).append(op)
        return {tensor: tuple(ops) for tensor, ops in found.items()}

    @cached_property
    def constant_tensors(self) -> frozenset[str]:
        """Tensors that depend on weights only."""
        return frozenset(t for op in self.ops if op.is_constant for t in op.outputs)

    @cached_property
    def block_of(self) -> Mapping[str, Block]:
        """Op -> its block."""
        return {op: block for block in self.blocks or () for op in block.ops}

    def tensor(self, name: str) -> TensorInfo:
        """What is known of a tensor.

        Raises:
            ModelError: nothing is.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise ModelError(f"nothing is known of the type of tensor {name!r}") from None


def captured_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the bodies of ``node`` read from outside of it."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _free_names(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for body in attribute.graphs:
                yield from _free_names(body)


def _free_names(graph: onnx.GraphProto) -> Iterator[str]:
    bound = {i.name for i in graph.input} | {w.name for w in graph.initializer}
    bound |= {w.values.name for w in graph.sparse_initializer}
    for node in graph.node:
        for name in (*node.input, *captured_names(node)):
            if name and name not in bound:
                yield name
        bound.update(node.output)
    for output in graph.output:
        if output.name not in bound:
            yield output.name


# Ops whose result is not a function of their inputs; (domain, op type).
RANDOM_OPS = frozenset(
    ("", op_type)
    for op_type in (
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    )
)


def is_random(node: onnx.NodeProto) -> bool:
    """Whether ``node``, or one in its bodies, draws random numbers."""
    if (node.domain.replace("ai.onnx", "") or "", node.op_type) in RANDOM_OPS:
        return True
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return any(is_random(inner) for body in bodies for inner in body.node)


def _ops(model: onnx.ModelProto, weights: frozenset[str]) -> Iterable[Op]:
    constant: set[str] = set()
    graph_outputs = {output.name for output in model.graph.output}
    random_functions = {
        (f.domain, f.name) for f in model.functions if any(is_random(n) for n in f.node)
    }
    for node in model.graph.node:
        captures = list(captured_names(node))
        read = [name for name in dict.fromkeys((*node.input, *captures)) if name]
        tensors = tuple(name for name in read if name not in weights)
        outputs = tuple(name for name in node.output if name)
        is_constant = (
            all(name in constant for name in tensors)
            and graph_outputs.isdisjoint(outputs)
            and not is_random(node)
            and (node.domain, node.op_type) not in random_functions
        )
        if is_constant:
            constant.update(outputs)
        yield Op(
            name=node.name,
            op_type=node.op_type,
            domain=node.domain,
            inputs=tensors,
            outputs=outputs,
            weights=tuple(name for name in read if name in weights),
            is_constant=is_constant,
            has_bodies=any(
                a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                for a in node.attribute
            ),
        )


def _initializer_bytes(weight: onnx.TensorProto) -> int:
    if weight.raw_data:
        return len(weight.raw_data)
    if weight.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in weight.string_data)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).name
    return (int(np.prod(weight.dims, dtype=np.int64)) * element_bits(dtype) + 7) // 8
