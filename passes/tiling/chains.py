"""Tensors through which everything passes, and what lies between two of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from partc.ir.program import Block, Program

# Tensors that may stay alive beside a sequence: more means a tangle that no cut would pay for.
_MOST_BYPASSING = 6


@dataclass(frozen=True)
class Link:
    """Two cut tensors that follow one another; ``why`` says what else joins their two sides."""

    entry: str
    exit: str
    blocks: tuple[Block, ...]
    why: str | None = None


def chains(program: Program) -> Iterator[list[Link]]:
    """Sequences of links, one for each set of tensors that bypasses them; the plainest first.

    A cut tensor is one through which everything passes, beside tensors that are merely kept for
    later (an attention mask, say, across blocks that do not read it).
    """
    blocks = program.blocks or ()
    made = {tensor: i for i, block in enumerate(blocks) for tensor in block.outputs}
    last_read = {tensor: i for i, block in enumerate(blocks) for tensor in block.inputs}
    for name in program.outputs:
        last_read.setdefault(name, len(blocks))
    ends: dict[int, list[str]] = {}
    for tensor, position in last_read.items():
        ends.setdefault(position, []).append(tensor)
    live = {name for name in program.inputs if name in last_read}
    places: dict[frozenset[str], list[tuple[int, str]]] = {}
    for position in range(-1, len(blocks)):
        if position >= 0:
            live.update(t for t in blocks[position].outputs if t in last_read)
            live.difference_update(ends.get(position, ()))
        if len(live) <= _MOST_BYPASSING + 1:
            for tensor in sorted(live):
                places.setdefault(frozenset(live - {tensor}), []).append((position, tensor))
    for bypassing in sorted(places, key=lambda names: (len(names), -len(places[names]))):
        chain: list[Link] = []
        found = places[bypassing]
        for (begin, entry), (end, exit) in itertools.pairwise(found):
            if entry == exit or made.get(exit, -1) <= begin:
                continue
            inside = blocks[begin + 1 : end + 1]
            why = _why_open(program, inside, exit, bypassing)
            if why is None:
                chain.append(Link(entry, exit, inside))
                continue
            if chain:
                yield chain
            yield [Link(entry, exit, inside, why)]
            chain = []
        if chain:
            yield chain


def _why_open(
    program: Program,
    inside: Sequence[Block],
    exit: str,
    bypassing: frozenset[str],
) -> str | None:
    """What else than the entry enters, or what else than the exit leaves."""
    for block in inside:
        for name in block.ops:
            op = program.op_by_name[name]
            for tensor in op.inputs:
                if tensor in bypassing:
                    return (
                        f"op {op.name!r} ({op.op_type}) also reads {tensor!r}, which is made before"
                    )
            for tensor in op.outputs:
                if tensor in program.outputs and tensor != exit:
                    return f"op {op.name!r} ({op.op_type}) gives {tensor!r}, which is an output"
    return None
