"""split: one ONNX model for each segment of the plan."""

from __future__ import annotations

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
        extractor = Extractor(program.model)
        segments = tuple(
            replace(
                segment,
                model=_model(program, extractor, segment),
                predicted_s=_predicted_s(program, segment),
            )
            for segment in make_segments(program, program.plan.placement)
        )
        said = f"{len(segments)} segments on {len({s.host for s in segments})} hosts"
        return PassResult(replace(program, segments=segments), True, (said,))


def _model(program: Program, extractor: Extractor, segment: Segment) -> onnx.ModelProto:
    ops = [program.op_by_name[name] for name in segment.ops]
    names = {*segment.ops, *(op.name for op in _constant_ops_of(program, ops))}
    for tensor in (*segment.inputs, *segment.outputs):
        if program.tensor(tensor).kind != "tensor":
            raise PassError(
                f"{tensor!r} is a {program.tensor(tensor).kind} and cannot leave its host",
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
