"""What a rule says of an op: which rows of its inputs a tile of its output needs, and how the node
is written for that tile.

"Rows" are positions along whatever axis is tiled. A rule answers with one table per input: for
each row of the output, the first row needed and the one after the last. Everything else (unions at
fan-out, costs of thousands of candidates, the rewriting itself) follows from these tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from partc.errors import PassError
from partc.ir.program import Array

Rows = npt.NDArray[np.int64]


class TilingError(PassError):
    """An op cannot be tiled along an axis; the message completes "op 'x' (Type) ..."."""


@dataclass(frozen=True)
class Reads:
    """The rows of one input that each row of the output needs.

    Attributes:
        axis: of the input.
        size: how many rows the input has.
        first, last: per row of the output, the first row needed and the one after the last;
            both never fall, and lie within the input.
    """

    axis: int
    size: int
    first: Rows
    last: Rows

    @classmethod
    def of(cls, axis: int, size: int, first: npt.ArrayLike, last: npt.ArrayLike) -> Reads:
        """From any table: rows outside of the input are padding, and order is brought in."""
        lowest = np.minimum.accumulate(np.asarray(first, np.int64)[::-1])[::-1]
        highest = np.maximum.accumulate(np.asarray(last, np.int64))
        return cls(axis, size, np.clip(lowest, 0, size - 1), np.clip(highest, 1, size))

    @classmethod
    def same(cls, axis: int, rows: int) -> Reads:
        """Each row needs the row of its own number."""
        own = np.arange(rows)
        return cls(axis, rows, own, own + 1)

    @classmethod
    def whole(cls, axis: int, size: int, rows: int) -> Reads:
        """Each of ``rows`` needs everything."""
        return cls(axis, size, np.zeros(rows, np.int64), np.full(rows, size, np.int64))

    def rows(self, begin: int, end: int) -> tuple[int, int]:
        """What output rows ``begin`` to ``end`` need."""
        return int(self.first[begin]), int(self.last[end - 1])


@dataclass(frozen=True)
class Site:
    """An op as a rule sees it: its node, what is known of its tensors, and the tiled axis.

    Attributes:
        axis: of the outputs, counted from 0.
        opset: of the domain of the op.
        shapes: tensor or weight -> its shape for planning.
        written: tensor -> its shape as the model writes it; numbers are fixed.
        dtype: of a tensor or weight, as numpy names it.
        value: weight -> array, or None for what is no weight.
        is_constant: whether a tensor depends on weights alone.
        used_outputs: outputs that another op or the user reads.
    """

    node: onnx.NodeProto
    axis: int
    opset: int
    shapes: Mapping[str, tuple[int, ...]]
    written: Callable[[str], tuple[int | str | None, ...] | None]
    dtype: Callable[[str], str]
    value: Callable[[str], Array | None]
    is_constant: Callable[[str], bool]
    used_outputs: frozenset[str]

    def input(self, index: int) -> str:
        """Name of an input; empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of an input.

        Raises:
            TilingError: it is left out or unknown.
        """
        name = self.input(index)
        if name not in self.shapes:
            raise TilingError(f"has an input {name!r} of unknown size")
        return self.shapes[name]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first output that is used."""
        name = next(name for name in self.node.output if name in self.used_outputs)
        return self.shapes[name]

    @property
    def rows(self) -> int:
        """Rows of the outputs."""
        return self.output_shape[self.axis]

    @property
    def rank(self) -> int:
        """Number of axes of the outputs."""
        return len(self.output_shape)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; text as ``str``."""
        for each in self.node.attribute:
            if each.name == name:
                value = onnx.helper.get_attribute_value(each)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, index: int, what: str) -> Array | None:
        """The value of an input that must be a weight; None where it is left out.

        Raises:
            TilingError: it is computed at run time.
        """
        name = self.input(index)
        if not name:
            return None
        value = self.value(name)
        if value is None:
            raise TilingError(f"takes its {what} from {name!r}, which is computed at run time")
        return value

    def is_fixed(self, index: int, axis: int) -> bool:
        """Whether the model writes a number for a dimension of an input."""
        written = self.written(self.input(index))
        return written is not None and isinstance(written[axis], int)

    def needs_only_first_output(self, why: str) -> None:
        """Refuse the op where another output than the first is used."""
        for name in self.node.output[1:]:
            if name in self.used_outputs:
                raise TilingError(f"also gives {name!r}, {why}")


class Tile(ABC):
    """What a rule writes one tile of an op with.

    Attributes:
        node: a copy of the op for this tile, its inputs already the tile's; a rule changes what
            differs and emits it.
        begin, end: rows of the output that are wanted.
        rows: input -> the rows that it holds.
    """

    node: onnx.NodeProto
    begin: int
    end: int
    rows: Mapping[int, tuple[int, int]]

    @abstractmethod
    def emit(self, node: onnx.NodeProto) -> None:
        """Add a node; one without a name is given one."""

    @abstractmethod
    def constant(self, value: Array, hint: str) -> str:
        """A weight with this value; its name."""

    @abstractmethod
    def temporary(self, hint: str, rows: int, like_input: int | None = None) -> str:
        """A name for a tensor between two nodes of the tile.

        Args:
            rows: along the tiled axis; all else is as in the output.
            like_input: or as in this input.
        """

    def set(self, **attributes: Any) -> None:
        """Give ``node`` attributes; one that is None is taken away."""
        kept = [each for each in self.node.attribute if each.name not in attributes]
        del self.node.attribute[:]
        self.node.attribute.extend(kept)
        for name, value in attributes.items():
            if value is not None:
                self.node.attribute.append(onnx.helper.make_attribute(name, value))

    def replace_input(self, index: int, name: str) -> None:
        """Read ``name`` instead; inputs that were left out before it stay so."""
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.node.input[index] = name


def as_it_is(tile: Tile) -> tuple[int, int]:
    """Rewriting for an op that needs no change."""
    tile.emit(tile.node)
    return tile.begin, tile.end


@dataclass(frozen=True)
class Sliding:
    """Rows see a window of rows, and the op can pad, so that a tile may hold rows at its edges
    that are not right, as long as nobody needs them.

    Attributes:
        before, after: padding of the whole op.
        most: padding that the op accepts at most; None for any.
    """

    stride: int
    extent: int
    before: int
    after: int
    most: int | None = None


@dataclass(frozen=True)
class Geometry:
    """A rule's answer for one op and one axis.

    Attributes:
        rows: of the output.
        reads: input -> the rows needed. A weight listed here is cut with its op; every other
            input must be a weight, which each tile reads whole.
        rewrite: emits the nodes of a tile and gives the rows that they compute, which may be
            more than wanted; the rest is then cut off.
        sliding: set where input 0 is read through a window.
    """

    rows: int
    reads: Mapping[int, Reads]
    rewrite: Callable[[Tile], tuple[int, int]] = as_it_is
    sliding: Sliding | None = None

    @property
    def keeps_rows(self) -> bool:
        """Whether each row is made of the rows of its own number."""
        own = np.arange(self.rows)
        return all(
            read.size == self.rows
            and bool((read.first == own).all() and (read.last == own + 1).all())
            for read in self.reads.values()
        )


Rule = Callable[[Site], Geometry]
"""Raises `TilingError` with the reason where the op mixes rows."""

RuleTable = Mapping[tuple[str, str], Rule]
"""(domain, op type) -> rule; the domain of standard ops is empty."""
