"""From a verified program to the runtime manifest."""

from __future__ import annotations

import hashlib
import itertools
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from partc.bundle.manifest import (
    SCHEMA_VERSION,
    AlternativeEntry,
    Artefact,
    BlockEntry,
    CallEntry,
    CertificateEntry,
    CostEntry,
    CostVectorEntry,
    ExchangeEntry,
    FileEntry,
    HostEntry,
    Manifest,
    ModelInfo,
    ParetoEntry,
    PlanEntry,
    PortfolioEntry,
    RefinementEntry,
    RefinementRoundEntry,
    RefusalEntry,
    RuledPointEntry,
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
from partc.ir.engine import EngineEntry
from partc.ir.plan import Plan, Transfer
from partc.ir.portfolio import Portfolio
from partc.ir.program import Program
from partc.ir.segment import Call, Exchange, Segment, Step
from partc.ir.topology import Topology
from partc.measure.statistics import now
from partc.passes.emit.tiling import tiling_entry
from partc.targets.memory import segment_memory
from partc.targets.registry import load_target

PlannedCalls = tuple[tuple[Call, ...], ...]
"""Calls of the chosen plan, then of each plan of the portfolio."""

_TOOLS = ("partc", "onnx", "onnxruntime", "onnx-graphsurgeon", "pulp", "highspy", "numpy")


def build_manifest(
    program: Program,
    topology: Topology,
    pipeline: str,
    plans: PlannedCalls,
    artefacts: Mapping[str, Mapping[str, Artefact]],
    no_fallback: Mapping[str, str],
    files: Mapping[str, FileEntry],
    engines: Mapping[str, Mapping[str, EngineEntry]] | None = None,
) -> Manifest:
    """Everything in one place.

    Args:
        plans: calls of the chosen plan, then of each plan of the portfolio.
        artefacts: host -> segment -> file; segments of other hosts are fallbacks.
        no_fallback: host -> why it cannot finish a request alone.
        engines: host -> segment -> engine, of hosts that run any.
    """
    plan, segments = program.plan, program.segments
    if plan is None or segments is None or program.verification is None:
        raise PassError("a bundle needs a plan, segments and a verification")
    portfolio = program.portfolio
    every = [segments, *(each.segments or () for each in (portfolio.plans if portfolio else ()))]
    host_of = {segment.id: segment.host for each in every for segment in each}
    precisions = program.costs.precisions if program.costs is not None else {}
    hosts = {
        name: HostEntry(
            target=host.target,
            backend=load_target(host.target).backend,
            optimization=load_target(host.target).optimization,
            provider=load_target(host.target).provider,
            provider_options=dict(load_target(host.target).provider_options),
            threads=host.threads,
            costs_precision=precisions.get(name, ""),
            slowdown=host.slowdown,
            address=host.served_at,
            artefacts={
                segment: file
                for segment, file in artefacts.get(name, {}).items()
                if host_of[segment] == name
            },
            fallback={
                segment: file
                for segment, file in artefacts.get(name, {}).items()
                if host_of[segment] != name
            },
            no_fallback_reason=no_fallback.get(name),
            engines=dict((engines or {}).get(name, {})),
            refused=[
                RefusalEntry(op=each.op, reason=each.reason, found_by=each.found_by)
                for each in program.refusals
                if each.host == name
            ],
        )
        for name, host in topology.hosts.items()
    }
    boundary = dict.fromkeys((*program.inputs, *program.outputs))
    for segment in itertools.chain.from_iterable(every):
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
        plan=_plan(program, segments, plan.transfers, plans[0]),
        portfolio=_portfolio(program, portfolio, plans[1:]),
        pareto=_pareto(plan),
        blocks=_blocks(program, plan),
        strategies=[
            StrategyEntry(
                name=s.name,
                predicted_s=s.predicted_s,
                bytes_sent=s.bytes_sent,
                compute_s=dict(s.compute_s),
                transfer_s=s.transfer_s,
                period_s=s.period_s,
                energy_j=s.energy_j,
            )
            for s in plan.strategies
        ],
        certificate=CertificateEntry(**vars(plan.certificate)),
        verdict=VerdictEntry(**vars(plan.verdict)) if plan.verdict else None,
        sweep=[
            SweepEntry(bandwidth_mbit_s=p.bandwidth_mbit_s, predicted_s=dict(p.predicted_s))
            for p in plan.sweep
        ],
        refinement=_refinement(program),
        tiling=tiling_entry(program),
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


def _plan(
    program: Program,
    segments: Sequence[Segment],
    transfers: Sequence[Transfer],
    calls: Sequence[Call],
) -> PlanEntry:
    return PlanEntry(
        root=calls[0].host,
        segments=[_segment(program, segment) for segment in segments],
        transfers=[_transfer(transfer) for transfer in transfers],
        calls=[call_entry(call) for call in calls],
    )


def _portfolio(
    program: Program, portfolio: Portfolio | None, plans: PlannedCalls
) -> PortfolioEntry | None:
    if portfolio is None:
        return None
    return PortfolioEntry(
        plans=[
            AlternativeEntry(
                name=each.name,
                plan=_plan(program, each.segments or (), each.transfers, calls),
                cost=CostVectorEntry(**vars(each.cost)),
                survives=list(each.survives),
            )
            for each, calls in zip(portfolio.plans, plans, strict=True)
        ],
        base_bandwidth_mbit_s=portfolio.base_bandwidth_mbit_s,
        base_rtt_s=portfolio.base_rtt_s,
        message_s_per_byte=portfolio.message_s_per_byte,
        tolerance=portfolio.tolerance,
        certified_fraction=portfolio.certified_fraction,
        known_plans=portfolio.known_plans,
        solve_s=portfolio.solve_s,
        map=[RuledPointEntry(**vars(point)) for point in portfolio.map],
    )


def _pareto(plan: Plan) -> ParetoEntry | None:
    if plan.pareto is None:
        return None
    return ParetoEntry.model_validate(
        {
            "objectives": plan.pareto.objectives,
            "points": [vars(point) for point in plan.pareto.points],
            "complete": plan.pareto.complete,
        }
    )


def _spec(program: Program, name: str) -> TensorSpec:
    info = program.tensor(name)
    return TensorSpec(
        name=name,
        dtype=info.dtype,
        shape=None if info.shape is None else list(info.shape),
        planned_shape=None if info.planned_shape is None else list(info.planned_shape),
    )


def _segment(program: Program, segment: Segment) -> SegmentEntry:
    memory = segment_memory(program, segment.ops, segment.outputs) if program.blocks else None
    costs = program.costs.segments if program.costs is not None else {}
    measured = costs.get((segment.host, segment.ops))
    return SegmentEntry(
        id=segment.id,
        host=segment.host,
        ops=list(segment.ops),
        inputs=list(segment.inputs),
        outputs=list(segment.outputs),
        predicted_s=segment.predicted_s,
        weights_bytes=memory.weights_bytes if memory else None,
        peak_activation_bytes=memory.peak_activation_bytes if memory else None,
        provenance=measured.provenance if measured else None,
    )


def call_entry(call: Call) -> CallEntry:
    """A call as the manifest has it."""
    return CallEntry(
        id=call.id,
        host=call.host,
        caller=call.caller,
        inputs=list(call.inputs),
        outputs=list(call.outputs),
        steps=[_step(step) for step in call.steps],
        is_last=call.is_last,
    )


def _step(step: Step) -> StepEntry:
    return StepEntry(
        run=step.run,
        call=step.call,
        push=_exchange(step.push),
        awaits=_exchange(step.awaits),
    )


def _exchange(exchange: Exchange | None) -> ExchangeEntry | None:
    if exchange is None:
        return None
    return ExchangeEntry(id=exchange.id, peer=exchange.peer, tensors=list(exchange.tensors))


def _transfer(transfer: Transfer) -> TransferEntry:
    return TransferEntry(
        tensor=transfer.tensor,
        sender=transfer.sender,
        receiver=transfer.receiver,
        bytes=transfer.size_bytes,
        codec=transfer.codec,
        predicted_s=transfer.predicted_s,
    )


def _blocks(program: Program, plan: Plan) -> list[BlockEntry]:
    entries: list[BlockEntry] = []
    for block in program.blocks or ():
        row = program.costs.costs[block.name] if program.costs else {}
        entries.append(
            BlockEntry(
                name=block.name,
                ops=list(block.ops),
                inputs=list(block.inputs),
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


def _refinement(program: Program) -> RefinementEntry | None:
    found = program.costs.refinement if program.costs is not None else None
    if found is None:
        return None
    return RefinementEntry(
        rounds=[
            RefinementRoundEntry(
                blocks=dict(Counter(each.placement.values())),
                predicted_s=each.predicted_s,
                measured_s=each.measured_s,
                segments=each.segments,
            )
            for each in found.rounds
        ],
        outcome=found.outcome,
        spent_s=found.spent_s,
        drift=found.drift,
    )
