"""Bundles whose plan is given, by which what messages cost is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from partc.ir.plan import Certificate, Plan
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.contract import Context


def write_probe(
    program: Program, topology: Topology, host_of: Callable[[str], str], output: Path
) -> Path:
    """Write the bundle of a program whose ops run where ``host_of`` says."""
    from partc.passes.emit.emit_bundle import emit_bundle
    from partc.pipeline import Pipeline

    text = "infer-shapes,group-blocks{fused=false}"
    context = Context(topology)
    program = Pipeline.parse(text).run(program, topology, context=context)
    plan = Plan(
        placement={op.name: host_of(op.name) for op in program.placed_ops},
        transfers=(),
        strategies=(),
        certificate=Certificate("latency", 0.0, 0.0, 0.0, "feasible", "given", 0.0),
        verdict=None,
        sweep=(),
        problem={},
    )
    program = Pipeline.parse("split,verify").run(
        replace(program, plan=plan), topology, context=context
    )
    emit_bundle(program, topology, text, output)
    return output
