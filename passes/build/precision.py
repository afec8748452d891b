"""set-precision: writes the precision of each host into the ONNX of its segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from partc.ir.program import Array, Program
from partc.ir.segment import Segment
from partc.passes.build.lowering import lowered
from partc.passes.build.rewriting import (
    calibration_samples,
    for_bf16,
    refuse_bf16_without_engine,
    rewritten,
)
from partc.passes.contract import Context, Pass, PassResult
from partc.targets.reference import open_reference


@dataclass(frozen=True)
class SetPrecision(Pass):
    """Casts for fp16 and bf16, QuantizeLinear and DequantizeLinear for int8.

    The network is then strongly typed: it means the same to every version of every backend.
    Tensors between segments keep their types. What is lost is measured by verify, and held to the
    loss budget, before any engine is built.
    """

    name: ClassVar[str] = "set-precision"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("split",)
    ensures: ClassVar[tuple[str, ...]] = ("split",)

    def run(self, program: Program, context: Context) -> PassResult:
        """Rewrite the segments of hosts that do not compute in float32."""
        hosts = context.topology.hosts
        every = {segment.id: segment for plan in _plans(program) for segment in plan}
        wanted = [each for each in every.values() if hosts[each.host].precision != "fp32"]
        if not wanted:
            return PassResult(program, False)
        samples: dict[str, list[Mapping[str, Array]]] = {}
        if any(hosts[each.host].precision == "int8" for each in wanted):
            samples = _inputs_of_segments(program, context)
        changed: dict[str, Segment] = {}
        said: list[str] = []
        for number, segment in enumerate(wanted):
            context.progress(f"setting the precision of {segment.id}", number / len(wanted))
            precision = hosts[segment.host].precision
            assert segment.model is not None
            if precision == "int8":
                changed[segment.id], text = _in_int8(segment, samples.get(segment.id, []))
            elif precision == "bf16":
                refuse_bf16_without_engine(context.topology, segment.host)
                changed[segment.id], text = _in_bf16(segment)
            else:
                found = lowered(segment.model, "fp16")
                changed[segment.id] = replace(segment, precision="fp16", deployed=found.model)
                text = f"{found.ops} of {found.float_ops} float ops compute in fp16"
            said.append(f"segment {segment.id} on {segment.host}: {text}")
        return PassResult(_with(program, changed), True, tuple(said))


def _in_bf16(segment: Segment) -> tuple[Segment, str]:
    """No processor's ONNX Runtime computes in bfloat16, so the float32 model stays to fall back
    to, and what is lost is measured on a model that rounds every value."""
    assert segment.model is not None
    model = for_bf16(segment.model)
    found = lowered(model, "bf16")
    text = f"{found.ops} of {found.float_ops} float ops compute in bf16"
    emulated = lowered(model, "bf16", emulated=True).model
    return (
        replace(segment, precision="bf16", engine_source=found.model, emulated=emulated),
        text,
    )


def _in_int8(segment: Segment, samples: list[Mapping[str, Array]]) -> tuple[Segment, str]:
    assert segment.model is not None
    model = rewritten(segment.model, "int8", samples)
    count = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    text = f"{count} tensors are quantised to int8, by the ranges of {len(samples)} sample inputs"
    return replace(segment, precision="int8", deployed=model), text


def _inputs_of_segments(program: Program, context: Context) -> dict[str, list[Mapping[str, Array]]]:
    """Segment -> what it reads on each sample, in float32."""
    feeds = calibration_samples(program, context)
    found: dict[str, list[Mapping[str, Array]]] = {}
    for plan in _plans(program):
        if all(segment.id in found for segment in plan):
            continue
        held = [dict(each) for each in feeds]
        for segment in plan:
            assert segment.model is not None
            inputs = [{name: each[name] for name in segment.inputs} for each in held]
            found.setdefault(segment.id, list(inputs))
            with open_reference(segment.model) as runner:
                for each, given in zip(held, inputs, strict=True):
                    each.update(runner.run(given))
    return found


def _plans(program: Program) -> list[tuple[Segment, ...]]:
    others = program.portfolio.plans if program.portfolio is not None else ()
    return [program.segments or (), *(each.segments or () for each in others)]


def _with(program: Program, changed: Mapping[str, Segment]) -> Program:
    def exchanged(segments: Iterable[Segment] | None) -> tuple[Segment, ...] | None:
        if segments is None:
            return None
        return tuple(changed.get(segment.id, segment) for segment in segments)

    portfolio = program.portfolio
    if portfolio is not None:
        plans = tuple(replace(e, segments=exchanged(e.segments)) for e in portfolio.plans)
        portfolio = replace(portfolio, plans=plans)
    return replace(program, segments=exchanged(program.segments), portfolio=portfolio)
