"""How much memory a segment needs: its weights, and the tensors that are alive at once.

Blocks run one after the other. A tensor is alive from the block that makes it to the last one that
reads it; what enters a segment is held by whoever called it until the end, and what leaves it from
when it is made until then. Tensors inside of a block are not counted: it is one kernel. Backends
add memory of their own (copies of weights in another layout, scratch space, an arena that grows in
steps); `partc.targets.resident` measures what they really take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from partc.errors import PassError
from partc.ir.program import Block, Program


@dataclass(frozen=True)
class SegmentMemory:
    """Bytes that a segment needs.

    Attributes:
        weights_bytes: each weight once, however many ops use it.
        peak_activation_bytes: of the tensors that are alive at once, at the worst moment.
        unknown: tensors whose size nobody knows; they count nothing.
    """

    weights_bytes: int
    peak_activation_bytes: int
    unknown: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Weights and activations together."""
        return self.weights_bytes + self.peak_activation_bytes


def segment_memory(
    program: Program, ops: Iterable[str], outputs: Iterable[str] | None = None
) -> SegmentMemory:
    """Memory of a segment of ``program`` that runs ``ops`` in the order of the program's blocks.

    Args:
        ops: names of ops; those of one block are together.
        outputs: tensors that leave the segment; where not given, those that others read or that
            the user wants.

    Raises:
        PassError: the program has no blocks yet.
    """
    if program.blocks is None:
        raise PassError("the memory of a segment needs blocks; run group-blocks first")
    inside = set(ops)
    blocks = [block for block in program.blocks if inside.intersection(block.ops)]
    leaving = set(outputs) if outputs is not None else set(_leaving(program, blocks))
    weights = dict.fromkeys(weight for block in blocks for weight in block.weights)
    peak, unknown = _peak_bytes(program, blocks, leaving)
    return SegmentMemory(
        weights_bytes=sum(program.weights.get(weight, 0) for weight in weights),
        peak_activation_bytes=peak,
        unknown=unknown,
    )


def _leaving(program: Program, blocks: Sequence[Block]) -> Iterable[str]:
    inside = {op for block in blocks for op in block.ops}
    for block in blocks:
        for tensor in block.outputs:
            readers = program.consumers.get(tensor, ())
            if tensor in program.outputs or any(op.name not in inside for op in readers):
                yield tensor


def _peak_bytes(
    program: Program, blocks: Sequence[Block], leaving: set[str]
) -> tuple[int, tuple[str, ...]]:
    """The most bytes alive during any block, and the tensors that could not be counted."""
    made = {tensor: step for step, block in enumerate(blocks) for tensor in block.outputs}
    read: dict[str, int] = {}
    for step, block in enumerate(blocks):
        for tensor in block.inputs:
            read[tensor] = step
    end = len(blocks) - 1
    change = [0] * (len(blocks) + 1)
    unknown = []
    for tensor in dict.fromkeys((*made, *read)):
        info = program.tensors.get(tensor)
        if info is None or not info.is_sized:
            unknown.append(tensor)
            continue
        first = made.get(tensor, 0)
        is_held = tensor not in made or tensor in leaving
        last = end if is_held else read.get(tensor, first)
        change[first] += info.size_bytes
        change[last + 1] -= info.size_bytes
    live = peak = 0
    for step in change:
        live += step
        peak = max(peak, live)
    return peak, tuple(unknown)
