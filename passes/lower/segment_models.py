"""Segments as models of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx

from partc.errors import PassError
from partc.ir.program import Op, Program
from partc.ir.segment import Segment
from partc.passes.ingest.types import value_info
from partc.passes.lower.schedule import make_segments
from partc.passes.surgery import Extractor


class SegmentMaker:
    """Makes each segment once, whatever the number of plans that it is in."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._extractor = Extractor(program.model)
        self._made: dict[tuple[str, tuple[str, ...]], Segment] = {}

    def segments(self, placement: Mapping[str, str]) -> tuple[Segment, ...]:
        """The segments of a placement (op -> host) with their models.

        Raises:
            PassError: a tensor between two of them is of a kind that cannot be sent.
        """
        return tuple(self._finished(s) for s in make_segments(self._program, placement))

    def _finished(self, segment: Segment) -> Segment:
        key = (segment.host, segment.ops)
        if key not in self._made:
            named = replace(segment, id=f"s{len(self._made)}")
            self._made[key] = replace(
                named,
                model=_model(self._program, self._extractor, named),
                predicted_s=_predicted_s(self._program, named),
            )
        return self._made[key]


def _model(program: Program, extractor: Extractor, segment: Segment) -> onnx.ModelProto:
    ops = [program.op_by_name[name] for name in segment.ops]
    names = {*segment.ops, *constant_ops_of(program, ops)}
    for tensor in (*segment.inputs, *segment.outputs):
        info = program.tensor(tensor)
        if not info.can_cross:
            what = f"of type {info.dtype}" if info.kind == "tensor" else f"a {info.kind}"
            raise PassError(
                f"{tensor!r} is {what} and cannot leave its segment; "
                "put group-blocks before partition, which keeps its ops together",
                pass_name="split",
                host=segment.host,
            )
    return extractor.extract(
        names,
        [value_info(tensor, program.tensor(tensor)) for tensor in segment.inputs],
        [value_info(tensor, program.tensor(tensor)) for tensor in segment.outputs],
        f"{program.name}_{segment.id}",
    )


def constant_ops_of(program: Program, ops: Iterable[Op]) -> list[str]:
    """Names of the ops that compute what ``ops`` read and that depend on weights alone."""
    found: dict[str, Op] = {}
    stack = list(ops)
    while stack:
        for tensor in stack.pop().inputs:
            producer = program.producer.get(tensor)
            if producer is not None and producer.is_constant and producer.name not in found:
                found[producer.name] = producer
                stack.append(producer)
    return list(found)


def _predicted_s(program: Program, segment: Segment) -> float:
    if program.costs is None or program.blocks is None:
        return 0.0
    measured = program.costs.segments.get((segment.host, segment.ops))
    if measured is not None:
        return measured.median_s
    blocks = {program.block_of[op].name for op in segment.ops}
    compute_s = sum(program.costs.of(block, segment.host).median_s for block in sorted(blocks))
    return compute_s + program.costs.segment_fixed_s[segment.host]
