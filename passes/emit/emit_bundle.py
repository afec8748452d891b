"""Writes a verified program as a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import onnx

from partc.bundle.manifest import Artefact, Manifest
from partc.bundle.writer import BundleWriter
from partc.errors import PassError
from partc.ir.program import Program
from partc.ir.segment import Call, Segment
from partc.ir.topology import Topology
from partc.passes.contract import Progress, no_progress
from partc.passes.emit.annotate_graph import annotated_model
from partc.passes.emit.engines import add_engines, left_to_hosts
from partc.passes.emit.manifest import PlannedCalls, build_manifest
from partc.passes.emit.workshop import Workshop
from partc.passes.lower.schedule import make_calls
from partc.targets.support import unsupported_by_host

REPORT_NAME = "report.html"
PROBLEM_NAME = "problem.json"
WHOLE_MODEL_NAME = "annotated.onnx"


def emit_bundle(
    program: Program,
    topology: Topology,
    pipeline: str,
    output: Path,
    *,
    force: bool = False,
    render_report: Callable[[Manifest], str] | None = None,
    progress: Progress = no_progress,
    workshop: Workshop | None = None,
) -> Manifest:
    """Write everything that the hosts and a reader need; the folder appears whole or not at all.

    Args:
        workshop: where engines are built; one of this machine alone if None.

    Raises:
        BundleError: ``output`` exists, or cannot be written.
        PassError: the program is not verified yet.
    """
    if program.segments is None or program.verification is None or program.plan is None:
        raise PassError("a bundle needs a verified program; run split and verify before")
    plans = _planned_calls(program, topology)
    with ExitStack() as stack:
        workshop = workshop or stack.enter_context(Workshop(topology))
        writer = stack.enter_context(BundleWriter(output, force))
        fallback, no_fallback = _fallback_segments(program, topology, plans)
        artefacts: dict[str, dict[str, Artefact]] = {}
        for host in topology.hosts:
            models = _models(program, host, fallback.get(host, set()))
            artefacts[host] = writer.add_models(f"hosts/{host}", models)
        writer.add_arrays("golden/input.npz", program.verification.feeds)
        writer.add_arrays("golden/output.npz", program.verification.outputs)
        writer.add_model(WHOLE_MODEL_NAME, annotated_model(program))
        segments = _segments_of_plans(program)
        engines = add_engines(writer, program, topology, segments, artefacts, workshop, progress)
        problem = json.dumps(program.plan.problem, indent=1) + "\n"
        writer.add_bytes(PROBLEM_NAME, problem.encode())
        notices = (*program.notices, *left_to_hosts(topology, workshop, engines))
        program = replace(program, notices=notices)

        def manifest() -> Manifest:
            return build_manifest(
                program, topology, pipeline, plans, artefacts, no_fallback, writer.files, engines
            )

        if render_report is not None:
            writer.add_bytes(REPORT_NAME, render_report(manifest()).encode())
        finished = manifest()
        writer.finish(finished)
    return finished


def _planned_calls(program: Program, topology: Topology) -> PlannedCalls:
    """The calls of the chosen plan, then those of each plan of the portfolio."""
    transfers = program.plan.transfers if program.plan is not None else ()
    chosen = make_calls(program, program.segments or (), topology, transfers=transfers)
    others = program.portfolio.plans if program.portfolio is not None else ()
    return (
        chosen,
        *(
            make_calls(program, each.segments or (), topology, f"p{number}c", each.transfers)
            for number, each in enumerate(others, 1)
        ),
    )


def _segments_of_plans(program: Program) -> list[tuple[Segment, ...]]:
    others = program.portfolio.plans if program.portfolio is not None else ()
    return [program.segments or (), *(each.segments or () for each in others)]


def _all_segments(program: Program) -> dict[str, Segment]:
    return {segment.id: segment for segments in _segments_of_plans(program) for segment in segments}


def _models(program: Program, host: str, fallback: set[str]) -> dict[str, onnx.ModelProto]:
    """Segment -> model, of the segments that ``host`` runs and of those it can stand in for."""
    models: dict[str, onnx.ModelProto] = {}
    for segment in _all_segments(program).values():
        if segment.host == host or segment.id in fallback:
            if segment.model is None:
                raise PassError(f"segment {segment.id!r} has no model")
            models[segment.id] = segment.deployed or segment.model
    return models


def _fallback_segments(
    program: Program, topology: Topology, plans: PlannedCalls
) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Host -> segments of others with which it finishes a request; host -> why it cannot."""
    fallback: dict[str, set[str]] = {}
    reasons: dict[str, str] = {}
    refused = unsupported_by_host(program, topology)
    for calls in plans:
        by_id = {call.id: call for call in calls}
        for call in calls:
            if call.caller is None:
                continue
            reason = _why_not(program, topology, call.caller, refused[call.caller])
            if reason:
                reasons[call.caller] = reason
            else:
                fallback.setdefault(call.caller, set()).update(_segments_of(call, by_id))
    return fallback, reasons


def _segments_of(call: Call, by_id: dict[str, Call]) -> set[str]:
    found: set[str] = set()
    for step in call.steps:
        if step.run is not None:
            found.add(step.run)
        if step.call is not None:
            found |= _segments_of(by_id[step.call], by_id)
    return found


def _why_not(program: Program, topology: Topology, caller: str, refused: object) -> str | None:
    if refused:
        return f"{caller} cannot run some ops of the model, so it cannot finish a request alone"
    memory_mib = topology.hosts[caller].memory_mib
    weights_mib = sum(program.weights.values()) / 2**20
    if memory_mib is not None and weights_mib > memory_mib:
        return (
            f"the model's weights ({weights_mib:.0f} MiB) do not fit {caller} "
            f"({memory_mib:g} MiB), so it cannot finish a request alone"
        )
    return None
