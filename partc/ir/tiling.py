"""Horizontal parts of a plan: block sequences that several hosts compute side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import onnx

from partc.errors import UsageError
from partc.ir.tensor import TensorInfo

TileKind = Literal["tiles", "input-channels", "branches"]
Margins = Literal["auto", "cut", "kept"]


@dataclass(frozen=True)
class TileGroup:
    """The blocks between two tensors, computed by several hosts, each its share.

    Attributes:
        blocks: what lies between ``entry`` and ``exit``; nothing else enters or leaves them.
        entry, exit: tensors. The entry is whole at one host, or the exit of another group: then
            each host takes the rows that it needs from whichever host holds them.
        hosts: who computes; each at most once.
        bounds: one more than hosts. With ``tiles``, ``hosts[k]`` computes the rows
            ``bounds[k]`` to ``bounds[k + 1]`` of ``exit``; with ``input-channels`` it works on
            those channels of ``entry``. With ``branches``, where the inputs of the Concat that
            makes ``exit`` begin and end in it.
        axis: of ``exit`` (of ``entry`` for ``input-channels``): 2 for the rows of an image, 3 for
            its columns, 1 for channels or for the positions of a sequence.
        kind: ``tiles`` cuts the exit; ``input-channels`` lets every host add its part to one sum,
            for a layer whose weights do not fit one host; ``branches`` gives every host some of
            the branches that a Concat joins, with all of their layers: nothing is cut, and what
            two branches have in common is done twice.
        margins: what becomes of rows that some ops of a tile need and others do not, as beside a
            residual join. ``cut`` takes them away where they are not needed, by Slices that
            backends cannot fuse; ``kept`` carries them along to the end of the group and computes
            a few rows for nothing; ``auto`` keeps them while they are few.
        sum_at: with ``input-channels``, where the parts are added and the rest of the blocks
            runs; the first host if None.
        owners: with ``branches``, who makes each input of the Concat.
    """

    blocks: tuple[str, ...]
    entry: str
    exit: str
    hosts: tuple[str, ...]
    bounds: tuple[int, ...]
    axis: int = 2
    kind: TileKind = "tiles"
    sum_at: str | None = None
    margins: Margins = "auto"
    owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorPart:
    """A tensor that holds rows ``begin`` to ``end`` of another, along ``axis``."""

    tensor: str
    axis: int
    begin: int
    end: int


@dataclass(frozen=True)
class Tiled:
    """What the pass ``tile`` did to a program.

    Attributes:
        groups: as the plan had them.
        model, tensors: the program's before the pass: the reference for every part.
        parts: tensor of the rewritten model -> what it holds of one in ``model``.
        rows: (group's position, op of ``model``, host) -> the rows that it computes there.
        sizes: op of ``model`` -> how many rows it has as a whole.
        blocks: tiled block of the program before the pass -> its ops.
        seconds: those blocks -> what the whole takes on the fastest host, where costs are known.
    """

    groups: tuple[TileGroup, ...]
    model: onnx.ModelProto
    tensors: Mapping[str, TensorInfo]
    parts: Mapping[str, TensorPart]
    rows: Mapping[tuple[int, str, str], tuple[int, int]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def shares_to_bounds(rows: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Where to cut ``rows`` so that each part has about its share, and at least one row.

    Args:
        shares: what each host is to have of the whole, in any unit; a host twice as fast as
            another gets about twice the rows for twice its share.

    Raises:
        UsageError: there are fewer rows than shares, or a share is not above zero.
    """
    check_shares(rows, shares)
    total = float(sum(shares))
    exact = [rows * share / total for share in shares]
    counts = [max(1, int(each)) for each in exact]
    by_need = sorted(range(len(shares)), key=lambda k: (counts[k] - exact[k], k))
    for k in _cycle(by_need, rows - sum(counts)):
        counts[k] += 1
    while sum(counts) > rows:  # parts that were raised to one row took from the others
        largest = max(range(len(counts)), key=lambda k: (counts[k] > 1, counts[k] - exact[k]))
        counts[largest] -= 1
    bounds = [0]
    for count in counts:
        bounds.append(bounds[-1] + count)
    return tuple(bounds)


def check_shares(rows: int, shares: Sequence[float]) -> None:
    """Refuse shares of which no tiles can be made.

    Raises:
        UsageError: there are none, fewer rows than shares, or a share is not above zero.
    """
    if not shares:
        raise UsageError("tiles need at least one server; name the servers that share the work")
    for share in shares:
        if not 0 < share < float("inf"):
            raise UsageError(
                f"a share of {share:g} is no share: every server that takes part needs one above "
                "zero; leave the server out instead"
            )
    if len(shares) > rows:
        raise UsageError(
            f"{len(shares)} servers cannot share {rows} row{'s' if rows != 1 else ''}: each needs "
            "at least one; name fewer servers or cut where the tensor is larger"
        )


def _cycle(order: Sequence[int], count: int) -> Iterable[int]:
    return (order[index % len(order)] for index in range(max(count, 0)))
