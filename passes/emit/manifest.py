"""From a verified program to the runtime manifest."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from partc.bundle.manifest import (
    SCHEMA_VERSION,
    Artefact,
    BlockEntry,
    CallEntry,
    CertificateEntry,
    CostEntry,
    FileEntry,
    HostEntry,
    Manifest,
    ModelInfo,
    PlanEntry,
    SegmentEntry,
    StepEntry,
    StrategyEntry,
    SweepEntry,
    TensorSpec,
    TransferEntry,
    VerdictEntry,
    VerificationEntry,
)
from partc.errors import PassError
from partc.ir.plan import Plan
from partc.ir.program import Program
from partc.ir.segment import Call, Segment
from partc.ir.topology import Topology
from partc.measure.statistics import now
from partc.targets.registry import load_target

_TOOLS = ("partc", "onnx", "onnxruntime", "onnx-graphsurgeon", "pulp", "highspy", "numpy")


def build_manifest(
    program: Program,
    topology: Topology,
    pipeline: str,
    calls: Sequence[Call],
    artefacts: Mapping[str, Mapping[str, str]],
    fallbacks: Mapping[str, Mapping[str, str]],
    no_fallback: Mapping[str, str],
    files: Mapping[str, FileEntry],
) -> Manifest:
    """Everything in one place.

    Args:
        artefacts, fallbacks: host -> segment -> path inside of the bundle.
        no_fallback: host -> why it cannot finish a request alone.
    """
    plan, segments = program.plan, program.segments
    if plan is None or segments is None or program.verification is None:
        raise PassError("a bundle needs a plan, segments and a verification")
    hosts = {
        name: HostEntry(
            target=host.target,
            backend=load_target(host.target).backend,
            optimization=load_target(host.target).optimization,
            threads=host.threads,
            slowdown=host.slowdown,
            address=host.address,
            artefacts=_artefacts(artefacts.get(name, {})),
            fallback=_artefacts(fallbacks.get(name, {})),
            no_fallback_reason=no_fallback.get(name),
        )
        for name, host in topology.hosts.items()
    }
    boundary = dict.fromkeys((*program.inputs, *program.outputs))
    for segment in segments:
        boundary.update(dict.fromkeys((*segment.inputs, *segment.outputs)))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        partc_version=_version("partc"),
        created_at=now(),
        tools={"python": platform.python_version()} | {name: _version(name) for name in _TOOLS},
        model=ModelInfo(
            name=program.name,
            sha256=_digest(program.source),
            inputs=[_spec(program, name) for name in program.inputs],
            outputs=[_spec(program, name) for name in program.outputs],
        ),
        topology=topology,
        pipeline=pipeline,
        tensors={name: _spec(program, name) for name in boundary},
        hosts=hosts,
        plan=PlanEntry(
            root=calls[0].host,
            segments=[_segment(segment) for segment in segments],
            transfers=_transfers(plan),
            calls=[_call(call) for call in calls],
        ),
        blocks=_blocks(program, plan),
        strategies=[
            StrategyEntry(
                name=s.name,
                predicted_s=s.predicted_s,
                bytes_sent=s.bytes_sent,
                compute_s=dict(s.compute_s),
                transfer_s=s.transfer_s,
            )
            for s in plan.strategies
        ],
        certificate=CertificateEntry(**vars(plan.certificate)),
        verdict=VerdictEntry(**vars(plan.verdict)) if plan.verdict else None,
        sweep=[
            SweepEntry(bandwidth_mbit_s=p.bandwidth_mbit_s, predicted_s=dict(p.predicted_s))
            for p in plan.sweep
        ],
        verified=VerificationEntry(
            max_abs_error=program.verification.max_abs_error,
            max_rel_error=program.verification.max_rel_error,
            loss=program.verification.loss,
            tensors={
                d.tensor: (d.max_abs_error, d.max_rel_error)
                for d in program.verification.differences
            },
        ),
        notices=list(program.notices),
        files=dict(files),
    )


def _artefacts(paths: Mapping[str, str]) -> dict[str, Artefact]:
    return {segment: Artefact(path=path, format="onnx") for segment, path in paths.items()}


def _spec(program: Program, name: str) -> TensorSpec:
    info = program.tensor(name)
    return TensorSpec(
        name=name,
        dtype=info.dtype,
        shape=None if info.shape is None else list(info.shape),
        planned_shape=None if info.planned_shape is None else list(info.planned_shape),
    )


def _segment(segment: Segment) -> SegmentEntry:
    return SegmentEntry(
        id=segment.id,
        host=segment.host,
        ops=list(segment.ops),
        inputs=list(segment.inputs),
        outputs=list(segment.outputs),
        predicted_s=segment.predicted_s,
    )


def _call(call: Call) -> CallEntry:
    return CallEntry(
        id=call.id,
        host=call.host,
        caller=call.caller,
        inputs=list(call.inputs),
        outputs=list(call.outputs),
        steps=[StepEntry(run=step.run, call=step.call) for step in call.steps],
        is_last=call.is_last,
    )


def _transfers(plan: Plan) -> list[TransferEntry]:
    return [
        TransferEntry(
            tensor=t.tensor,
            sender=t.sender,
            receiver=t.receiver,
            bytes=t.size_bytes,
            codec=t.codec,
            predicted_s=t.predicted_s,
        )
        for t in plan.transfers
    ]


def _blocks(program: Program, plan: Plan) -> list[BlockEntry]:
    entries: list[BlockEntry] = []
    for block in program.blocks or ():
        row = program.costs.costs[block.name] if program.costs else {}
        entries.append(
            BlockEntry(
                name=block.name,
                ops=list(block.ops),
                host=plan.placement[block.ops[0]],
                outputs={
                    tensor: program.tensor(tensor).size_bytes
                    for tensor in block.outputs
                    if program.tensor(tensor).is_sized
                },
                costs={host: CostEntry(**vars(cost)) for host, cost in row.items()},
            )
        )
    return entries


def _digest(source: Path | None) -> str | None:
    if source is None or not source.is_file():
        return None
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
