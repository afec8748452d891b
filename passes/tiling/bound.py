"""A block sequence whose every op was asked for its geometry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from partc.ir.program import Array, Op, Program
from partc.ir.tensor import Dim
from partc.passes.ingest.types import dtype_name
from partc.passes.tiling.geometry import Geometry, Rows, Site, TilingError
from partc.passes.tiling.registry import tile_rules

_STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class BoundOp:
    """An op with its geometry; ``reads`` names the tensors and weights that it cuts."""

    op: Op
    node: onnx.NodeProto
    site: Site
    geometry: Geometry

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs that somebody reads."""
        return tuple(name for name in self.op.outputs if name in self.site.used_outputs)


@dataclass(frozen=True)
class Demand:
    """What ranges of the exit need: per op the rows to compute, per read the rows to take.

    Begin and end are arrays of one shape, an element for each range that was asked for.
    """

    ops: Mapping[str, tuple[Rows, Rows]]
    reads: Mapping[tuple[str, int], tuple[Rows, Rows]]
    entry: tuple[Rows, Rows]


@dataclass(frozen=True)
class BoundGroup:
    """The ops between two tensors, each with its geometry along the axis on which the exit is cut.

    Attributes:
        ops: in an order in which they can run.
        axes: tensor -> the axis along which it is cut.
    """

    entry: str
    exit: str
    ops: tuple[BoundOp, ...]
    axes: Mapping[str, int]
    rows: Mapping[str, int]

    @cached_property
    def op_by_name(self) -> Mapping[str, BoundOp]:
        """Name -> op."""
        return {each.op.name: each for each in self.ops}

    def demand(self, begin: Rows, end: Rows) -> Demand:
        """Go back from rows ``begin`` to ``end`` of the exit, with a union at fan-out."""
        wanted: dict[str, tuple[Rows, Rows]] = {self.exit: (begin, end)}
        ops: dict[str, tuple[Rows, Rows]] = {}
        reads: dict[tuple[str, int], tuple[Rows, Rows]] = {}
        for each in reversed(self.ops):
            low, high = _hull(wanted[name] for name in each.outputs)
            ops[each.op.name] = (low, high)
            for index, read in each.geometry.reads.items():
                needed = read.first[low], read.last[high - 1]
                reads[each.op.name, index] = needed
                name = each.node.input[index]
                wanted[name] = _hull([wanted[name], needed]) if name in wanted else needed
        return Demand(ops, reads, wanted[self.entry])


def _hull(ranges: Iterable[tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
    first, *others = ranges
    low, high = first
    for each in others:
        low, high = np.minimum(low, each[0]), np.maximum(high, each[1])
    return low, high


class Binder:
    """Binds block sequences of one program; what it found of an op it keeps."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._rules = tile_rules()
        self._weights = {w.name: w for w in program.model.graph.initializer}
        self._shapes = _shapes(program, self._weights)
        self._opsets = {
            each.domain.replace("ai.onnx", ""): int(each.version)
            for each in program.model.opset_import
        }
        self._geometry: dict[tuple[str, int], BoundOp | str] = {}

    @property
    def opset(self) -> int:
        """Of the standard ops."""
        return self._opsets.get("", 1)

    def value(self, name: str) -> Array | None:
        """The array of a weight; None for what is none."""
        return self._value(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor or weight, for planning."""
        return self._shapes[name]

    def is_constant(self, name: str) -> bool:
        """Whether a tensor depends on weights alone."""
        return self._constant(name)

    def fixed_rows(self, tensor: str, axis: int) -> int:
        """How many rows a tensor always has.

        Raises:
            TilingError: the model leaves it open.
        """
        return self._rows(tensor, axis)

    def why_closed(self, op: Op) -> str | None:
        """Why an op can be tiled along no axis of its first output; None where it can."""
        reasons: list[str] = []
        for axis in range(len(self._shapes.get(op.outputs[0], ()))):
            try:
                self._bound_op(op, axis)
            except TilingError as error:
                reasons.append(error.message)
            else:
                return None
        if op.outputs[0] not in self._shapes:
            return f"{_named(op)} gives no tensor of known size"
        return reasons[0] if reasons else None

    def bind(self, ops: Sequence[Op], entry: str, exit: str, axis: int) -> BoundGroup:
        """Ask every op, from the last to the first.

        Args:
            ops: all that is between ``entry`` and ``exit``, in an order in which they can run.

        Raises:
            TilingError: an op mixes rows; the sentence names it.
        """
        axes = {exit: axis}
        rows = {exit: self._rows(exit, axis)}
        inside = {name for op in ops for name in op.outputs} | {entry}
        bound: list[BoundOp] = []
        for op in reversed(ops):
            own = [axes[name] for name in op.outputs if name in axes]
            if not own:
                raise TilingError(f"{_named(op)} gives nothing that {exit!r} needs")
            if len(set(own)) > 1:
                raise TilingError(f"{_named(op)} is wanted along two axes")
            found = self._bound_op(op, own[0])
            bound.append(found)
            for name in found.outputs:
                self._rows(name, own[0])
            for index, read in found.geometry.reads.items():
                name = found.node.input[index]
                if found.site.is_constant(name):
                    continue
                if axes.setdefault(name, read.axis) != read.axis:
                    raise TilingError(f"{_named(op)} reads {name!r} along another axis than others")
                rows[name] = self._rows(name, read.axis)
            for name in self._whole_reads(found):
                where = "all of its rows" if name in inside else "and it enters from outside"
                raise TilingError(f"{_named(op)} needs {name!r} whole ({where})")
            for index in found.geometry.reads:
                name = found.node.input[index]
                if name not in inside and not found.site.is_constant(name):
                    raise TilingError(f"{_named(op)} reads {name!r}, which enters from outside")
        if entry not in axes:
            raise TilingError(f"nothing between {entry!r} and {exit!r} reads {entry!r}")
        return BoundGroup(entry, exit, tuple(reversed(bound)), axes, rows)

    def _whole_reads(self, bound: BoundOp) -> list[str]:
        cut = {bound.node.input[index] for index in bound.geometry.reads}
        return [name for name in bound.op.inputs if name not in cut and not self._constant(name)]

    def _rows(self, tensor: str, axis: int) -> int:
        shape, planned = self._written(tensor), self._shapes.get(tensor)
        if shape is None or planned is None:
            raise TilingError(f"the model does not say how large tensor {tensor!r} is")
        if not 0 <= axis < len(planned):
            raise TilingError(f"tensor {tensor!r} has no axis {axis}")
        if not isinstance(shape[axis], int):
            size = "?" if shape[axis] is None else shape[axis]
            raise TilingError(
                f"axis {axis} of {tensor!r} is open ({size}), and tiles need a fixed number of "
                "rows; export the model with that size"
            )
        return planned[axis]

    def _bound_op(self, op: Op, axis: int) -> BoundOp:
        key = (op.name, axis)
        if key not in self._geometry:
            try:
                self._geometry[key] = self._ask(op, axis)
            except TilingError as refused:
                self._geometry[key] = f"{_named(op)} {refused}"
        found = self._geometry[key]
        if isinstance(found, str):
            raise TilingError(found, op=op.name)
        return found

    def _ask(self, op: Op, axis: int) -> BoundOp:
        domain = "" if op.domain in _STANDARD_DOMAINS else op.domain
        rule = self._rules.get((domain, op.op_type))
        if rule is None:
            raise TilingError("has no rule for tiles")
        node = self._program.nodes[op.name]
        used = frozenset(
            name
            for name in op.outputs
            if name in self._program.outputs or name in self._program.consumers
        )
        site = Site(
            node=node,
            axis=axis,
            opset=self._opsets.get(domain, 1),
            shapes=self._shapes,
            written=self._written,
            dtype=self._dtype,
            value=self._value,
            is_constant=self._constant,
            used_outputs=used,
        )
        if not used or any(name not in self._shapes for name in used):
            raise TilingError("gives a tensor of unknown size")
        if axis >= site.rank or site.rows == 0:
            raise TilingError(f"gives a tensor with nothing along axis {axis}")
        geometry = rule(site)
        if any(self._shapes[name][axis : axis + 1] != (site.rows,) for name in used):
            raise TilingError(f"gives tensors of different sizes along axis {axis}")
        return BoundOp(op, node, site, geometry)

    def _written(self, tensor: str) -> tuple[Dim, ...] | None:
        if tensor in self._weights:
            return tuple(self._weights[tensor].dims)
        info = self._program.tensors.get(tensor)
        return None if info is None else info.shape

    def _dtype(self, tensor: str) -> str:
        if tensor in self._weights:
            return dtype_name(self._weights[tensor].data_type)
        return self._program.tensor(tensor).dtype

    def _value(self, tensor: str) -> Array | None:
        if tensor not in self._weights:
            return None
        value: Array = onnx.numpy_helper.to_array(self._weights[tensor])
        return value

    def _constant(self, tensor: str) -> bool:
        return (
            not tensor
            or tensor in self._program.weights
            or tensor in self._program.constant_tensors
        )


def _shapes(
    program: Program, weights: Mapping[str, onnx.TensorProto]
) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(weight.dims) for name, weight in weights.items()}
    for name, info in program.tensors.items():
        if info.kind == "tensor" and info.planned_shape is not None:
            shapes[name] = info.planned_shape
    return shapes


def _named(op: Op) -> str:
    return f"op {op.name!r} ({op.op_type})"
