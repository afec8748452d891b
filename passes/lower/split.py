"""split: one ONNX model for each segment of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import onnx

from partc.errors import PassError
from partc.ir.program import Op, Program
from partc.ir.segment import Segment
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.types import value_info
from partc.passes.lower.schedule import make_segments
from partc.passes.surgery import Extractor


@dataclass(frozen=True)
class Split(Pass):
    """Cuts the graph where the plan changes hosts.

    Each segment carries the weights that it uses, and its own copy of the ops that depend on
    weights alone. Dimensions that the model leaves open stay open.
    """

    name: ClassVar[str] = "split"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("placed", "typed")
    ensures: ClassVar[tuple[str, ...]] = ("split",)

    def run(self, program: Program, context: Context) -> PassResult:
        """Make the segments and their models."""
        if program.plan is None:
            raise PassError("split needs a plan; run partition before it", pass_name=self.name)
        maker = _SegmentMaker(program)
        segments = maker.segments(program.plan.placement)
        portfolio = program.portfolio
        if portfolio is not None:
            plans = tuple(
                replace(each, segments=maker.segments(each.placement)) for each in portfolio.plans
            )
            portfolio = replace(portfolio, plans=plans)
        said = f"{len(segments)} segments on {len({s.host for s in segments})} hosts"
        return PassResult(replace(program, segments=segments, portfolio=portfolio), True, (said,))


class _SegmentMaker:
    """Makes each segment once, whatever the number of plans that it is in."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._extractor = Extractor(program.model)
        self._made: dict[tuple[str, tuple[str, ...]], Segment] = {}

    def segments(self, placement: Mapping[str, str]) -> tuple[Segment, ...]:
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
    names = {*segment.ops, *(op.name for op in _constant_ops_of(program, ops))}
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


def _constant_ops_of(program: Program, ops: list[Op]) -> list[Op]:
    found: dict[str, Op] = {}
    stack = list(ops)
    while stack:
        for tensor in stack.pop().inputs:
            producer = program.producer.get(tensor)
            if producer is not None and producer.is_constant and producer.name not in found:
                found[producer.name] = producer
                stack.append(producer)
    return list(found.values())


def _predicted_s(program: Program, segment: Segment) -> float:
    if program.costs is None or program.blocks is None:
        return 0.0
    blocks = {program.block_of[op].name for op in segment.ops}
    compute_s = sum(program.costs.of(block, segment.host).median_s for block in sorted(blocks))
    return compute_s + program.costs.segment_fixed_s[segment.host]
