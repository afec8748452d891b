"""Writes a verified program as a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from partc.bundle.manifest import Manifest
from partc.bundle.writer import BundleWriter
from partc.errors import PassError
from partc.ir.program import Program
from partc.ir.segment import Call
from partc.ir.topology import Topology
from partc.passes.emit.annotate_graph import annotated_model
from partc.passes.emit.manifest import build_manifest
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
) -> Manifest:
    """Write everything that the hosts and a reader need; the folder appears whole or not at all.

    Raises:
        BundleError: ``output`` exists, or cannot be written.
        PassError: the program is not verified yet.
    """
    if program.segments is None or program.verification is None or program.plan is None:
        raise PassError("a bundle needs a verified program; run split and verify before")
    calls = make_calls(program, program.segments, topology)
    with BundleWriter(output, force) as writer:
        artefacts: dict[str, dict[str, str]] = {}
        for segment in program.segments:
            if segment.model is None:
                raise PassError(f"segment {segment.id!r} has no model")
            path = writer.add_model(f"hosts/{segment.host}/{segment.id}.onnx", segment.model)
            artefacts.setdefault(segment.host, {})[segment.id] = path
        fallbacks, no_fallback = _add_fallbacks(writer, program, topology, calls, artefacts)
        writer.add_arrays("golden/input.npz", program.verification.feeds)
        writer.add_arrays("golden/output.npz", program.verification.outputs)
        writer.add_model(WHOLE_MODEL_NAME, annotated_model(program))
        problem = json.dumps(program.plan.problem, indent=1) + "\n"
        writer.add_bytes(PROBLEM_NAME, problem.encode())

        def manifest() -> Manifest:
            return build_manifest(
                program, topology, pipeline, calls, artefacts, fallbacks, no_fallback, writer.files
            )

        if render_report is not None:
            writer.add_bytes(REPORT_NAME, render_report(manifest()).encode())
        finished = manifest()
        writer.finish(finished)
    return finished


def _add_fallbacks(
    writer: BundleWriter,
    program: Program,
    topology: Topology,
    calls: Sequence[Call],
    artefacts: dict[str, dict[str, str]],
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Copies of other hosts' segments for every host that calls others."""
    fallbacks: dict[str, dict[str, str]] = {}
    reasons: dict[str, str] = {}
    refused = unsupported_by_host(program, topology)
    by_id = {call.id: call for call in calls}
    for caller in dict.fromkeys(call.caller for call in calls if call.caller is not None):
        wanted = [
            segment
            for segment in program.segments or ()
            if any(
                segment.id in _segments_of(call, by_id) for call in calls if call.caller == caller
            )
        ]
        reason = _why_not(program, topology, caller, refused[caller])
        if reason:
            reasons[caller] = reason
            continue
        fallbacks[caller] = {
            segment.id: writer.copy(
                f"hosts/{caller}/fallback/{segment.id}.onnx",
                artefacts[segment.host][segment.id],
            )
            for segment in wanted
        }
    return fallbacks, reasons


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
