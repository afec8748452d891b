"""split: one ONNX model for each segment of the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.errors import InfeasibleError, PassError
from partc.ir.program import Program
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.lower.segment_models import SegmentMaker


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
        if program.plan.unmet:
            raise InfeasibleError(program.plan.unmet, pass_name=self.name)
        maker = SegmentMaker(program)
        segments = maker.segments(program.plan.placement)
        portfolio = program.portfolio
        if portfolio is not None:
            plans = tuple(
                replace(each, segments=maker.segments(each.placement)) for each in portfolio.plans
            )
            portfolio = replace(portfolio, plans=plans)
        said = f"{len(segments)} segments on {len({s.host for s in segments})} hosts"
        return PassResult(replace(program, segments=segments, portfolio=portfolio), True, (said,))
