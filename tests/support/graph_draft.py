"""A random ONNX graph while it is being written: what is there to build on, and what it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
T = TypeVar("T")

OPSET = 17
IR_VERSION = 8
FLOAT = TensorProto.FLOAT
LARGEST_VALUE = 100.0
"""Larger values would lose what a comparison wants to see: in exp, in float16, in a sum."""
MOST_ELEMENTS = 2000


@dataclass(frozen=True)
class Value:
    """A tensor that later ops may read.

    Attributes:
        name: the tensor's name.
        dtype: its ONNX element type.
        shape: its shape for the sample input.
        bound: no element's magnitude is above this.
        exact: no float arithmetic is behind it, so that no way of running can round it otherwise;
            only then may it be truncated and read on as numbers.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    bound: float
    exact: bool = True

    @property
    def rank(self) -> int:
        """How many dimensions the tensor has."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the tensor holds float32 values."""
        return self.dtype == FLOAT

    @property
    def is_number(self) -> bool:
        """Whether arithmetic on the tensor is the same everywhere, up to rounding."""
        return self.dtype in {FLOAT, TensorProto.INT64, TensorProto.DOUBLE}


@dataclass
class GraphDraft:
    """Nodes, weights and inputs so far, and the source of all choices.

    Choices that decide the structure are drawn from Hypothesis, so that it can simplify a failing
    graph; the numbers in weights and inputs come from `rng`.
    """

    draw: st.DrawFn
    rng: np.random.Generator
    tensor_pattern: str = "t{}"
    dynamic_batch: bool = False
    repeat_names: bool = False
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    _names: int = 0

    def choose(self, options: Sequence[T]) -> T:
        """One of the options; Hypothesis simplifies towards the first."""
        return self.draw(st.sampled_from(options))

    def chance(self, one_in: int) -> bool:
        """True about once in so many times; Hypothesis simplifies towards False."""
        return self.draw_int(0, one_in - 1) == one_in - 1

    def draw_int(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.draw(st.integers(low, high))

    def draw_permutation(self, count: int) -> list[int]:
        """The numbers below `count` in some order."""
        return list(self.draw(st.permutations(range(count))))

    def pick(self, suits: Callable[[Value], bool]) -> Value | None:
        """A value that suits, late ones more often than early ones, or None."""
        suitable = [value for value in self.values if suits(value)][::-1]
        if not suitable:
            return None
        return self.choose(suitable[:3] if self.chance(2) else suitable)

    def pick_float(self, suits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A float32 value that suits."""
        return self.pick(lambda value: value.is_float and suits(value))

    def fresh_name(self) -> str:
        """A tensor name that is not in use, in bodies neither."""
        self._names += 1
        return self.tensor_pattern.format(self._names)

    def weight(self, array: npt.ArrayLike) -> str:
        """Store an initializer and return its name; floats become float32, ints int64."""
        values = np.asarray(array)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        name = self.fresh_name()
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def filters(self, shape: Sequence[int], fan_in_axes: tuple[int, ...]) -> Array:
        """Random weights that at most triple the magnitude of what they are applied to."""
        weights: Array = self.rng.standard_normal(tuple(shape))
        weights *= 3 / np.abs(weights).sum(axis=fan_in_axes, keepdims=True)
        return weights

    def input(self, dtype: int, shape: Sequence[int], values: Array, bound: float) -> Value:
        """Declare a graph input with its sample."""
        name = self.fresh_name()
        dims: list[int | str] = list(shape)
        if self.dynamic_batch and len(dims) > 1:
            dims[0] = "N"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        self.feeds[name] = values.astype(helper.tensor_dtype_to_np_dtype(dtype))
        value = Value(name, dtype, tuple(shape), bound)
        self.values.append(value)
        return value

    def add(
        self,
        op_type: str,
        inputs: Sequence[Value | str],
        shape: Sequence[int],
        *,
        bound: float,
        dtype: int | None = None,
        exact: bool = False,
        **attributes: Any,
    ) -> Value:
        """Append a node with one output, of the type of its first input unless `dtype` says so."""
        shapes = [shape]
        return self.add_split(
            op_type, inputs, shapes, bound=bound, dtype=dtype, exact=exact, **attributes
        )[0]

    def add_split(
        self,
        op_type: str,
        inputs: Sequence[Value | str],
        shapes: Sequence[Sequence[int]],
        *,
        bound: float,
        dtype: int | None = None,
        exact: bool = False,
        **attributes: Any,
    ) -> list[Value]:
        """Append a node with one output for each shape.

        With `exact` the op itself does not round, and the outputs are as exact as the inputs.
        """
        operands = [value for value in inputs if isinstance(value, Value)]
        element_type = dtype if dtype is not None else operands[0].dtype
        exact = exact and all(value.exact for value in operands)
        outputs = [
            Value(self.fresh_name(), element_type, tuple(shape), bound, exact) for shape in shapes
        ]
        self.append(op_type, inputs, [value.name for value in outputs], **attributes)
        self.values.extend(outputs)
        return outputs

    def transposed_weight(self, values: Array) -> Value:
        """`values` as Transpose of a weight, [m, n] -> [n, m] -> [m, n]: no input is needed."""
        turned = Value(self.weight(values.T), FLOAT, values.T.shape, 3.0)
        return self.add("Transpose", [turned], values.shape, bound=3.0, exact=True, perm=[1, 0])

    def condition(self) -> str:
        """A boolean graph input of rank 0; one is enough for a graph."""
        for value in self.values:
            if value.dtype == TensorProto.BOOL and value.name in self.feeds:
                return value.name
        flag = np.array(self.draw(st.booleans()))
        return self.input(TensorProto.BOOL, (), flag, bound=1.0).name

    def replace(self, value: Value, *, exact: bool) -> None:
        """Correct what is known about a value's exactness."""
        self.values[self.values.index(value)] = replace(value, exact=exact)

    def append(
        self,
        op_type: str,
        inputs: Sequence[Value | str],
        outputs: Sequence[str],
        **attributes: Any,
    ) -> None:
        """Append a node: with a name of its own, unnamed, or (if wanted) with a repeated name."""
        name = self.choose(("own", "own", "none", "repeated" if self.repeat_names else "own"))
        name = {"own": f"{op_type}_{len(self.nodes)}", "none": "", "repeated": "again"}[name]
        names = [value.name if isinstance(value, Value) else value for value in inputs]
        self.nodes.append(helper.make_node(op_type, names, list(outputs), name=name, **attributes))


def fits(shape: Sequence[int]) -> bool:
    """Whether a tensor of that shape is small enough to keep graphs quick."""
    return math.prod(shape) <= MOST_ELEMENTS
