"""Branches that a Concat joins: layers beside each other, which hosts share without cutting any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from partc.ir.program import Op, Program
from partc.passes.tiling.bound import Binder
from partc.passes.tiling.chains import chains
from partc.passes.tiling.geometry import TilingError


@dataclass(frozen=True)
class Branching:
    """The ops between two tensors, the second of which is put together out of branches.

    Attributes:
        blocks: whose ops they are.
        join: the Concat that makes ``exit``, and ``parts``, what it puts together.
        axis: along which it does.
        bounds: where each of its inputs begins and ends in ``exit``.
        branches: for each of its inputs, the names of the ops that it needs. What two of them
            have in common is computed by each host that has one.
        ops: all but ``join``, in an order in which they can run.
    """

    entry: str
    exit: str
    blocks: tuple[str, ...]
    join: Op
    parts: tuple[str, ...]
    axis: int
    bounds: tuple[int, ...]
    branches: tuple[frozenset[str], ...]
    ops: tuple[Op, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How much of ``exit`` each branch makes, along ``axis``."""
        return tuple(end - begin for begin, end in pairwise(self.bounds))

    def needed(self, owners: Sequence[str], host: str) -> frozenset[str]:
        """Ops that a host runs, given who owns each branch."""
        own = (b for b, owner in zip(self.branches, owners, strict=True) if owner == host)
        return frozenset().union(*own)


def branching(
    program: Program,
    binder: Binder,
    ops: Sequence[Op],
    entry: str,
    exit: str,
    blocks: Sequence[str] = (),
) -> Branching:
    """The branches of a block sequence.

    Args:
        ops: all that is between ``entry`` and ``exit``, in an order in which they can run.

    Raises:
        TilingError: no Concat of at least two tensors made here gives the exit.
    """
    makers = {tensor: op for op in ops for tensor in op.outputs}
    join = makers.get(exit)
    if join is None or join.op_type != "Concat" or join.domain not in ("", "ai.onnx"):
        what = "an input" if join is None else f"op {join.name!r} ({join.op_type})"
        raise TilingError(f"{exit!r} is made by {what}, and not by a Concat of branches")
    what = f"op {join.name!r} (Concat)"
    inputs = list(program.nodes[join.name].input)
    for tensor in inputs:
        if tensor not in makers:
            raise TilingError(f"{what} also reads {tensor!r}, which no branch makes")
    if len(inputs) < 2:
        raise TilingError(f"{what} has only one input")
    rank = len(program.tensor(exit).planned_shape or ())
    given = next((a.i for a in program.nodes[join.name].attribute if a.name == "axis"), 1)
    axis = int(given) % rank
    bounds = [0]
    for tensor in inputs:
        bounds.append(bounds[-1] + binder.fixed_rows(tensor, axis))
    branches = tuple(frozenset(_behind(tensor, makers)) for tensor in inputs)
    inner = tuple(op for op in ops if op.name != join.name)
    return Branching(
        entry, exit, tuple(blocks), join, tuple(inputs), axis, tuple(bounds), branches, inner
    )


def branchings(program: Program) -> Iterator[Branching]:
    """Every stage between two cut tensors that is made of branches, each once."""
    binder = Binder(program)
    seen: set[tuple[str, str]] = set()
    for chain in chains(program):
        for link in chain:
            names = {op for block in link.blocks for op in block.ops}
            sendable = all(program.tensor(name).can_cross for name in (link.entry, link.exit))
            if link.why is not None or not sendable or (link.entry, link.exit) in seen:
                continue
            ops = [op for op in program.placed_ops if op.name in names]
            blocks = [block.name for block in link.blocks]
            try:
                found = branching(program, binder, ops, link.entry, link.exit, blocks)
            except TilingError:
                continue
            seen.add((link.entry, link.exit))
            yield found


def _behind(tensor: str, makers: dict[str, Op]) -> Iterator[str]:
    """Names of the ops that make a tensor, and of those behind them."""
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        op = makers.get(waiting.pop())
        if op is not None and op.name not in seen:
            seen.add(op.name)
            waiting += op.inputs
            yield op.name
