"""The Python API: load a model, compile it, open a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from partc.bundle.manifest import Manifest
from partc.bundle.reader import Bundle
from partc.bundle.writer import refuse_existing
from partc.errors import UsageError
from partc.exchange_cost import measured_exchange_cost
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.link_costs import link_costs
from partc.measure.store import CostStore
from partc.passes.contract import Context, Progress, no_progress
from partc.passes.ingest.read_model import read_model
from partc.pipeline import DEFAULT_PIPELINE, Observer, Pipeline

if TYPE_CHECKING:
    from partc.agent.builder import AgentBuilder
    from partc.imports.imported import ImportedCosts
    from partc.runtime.device import Deployment
    from partc.targets.meter import Meter

OBJECTIVES = ("latency", "throughput", "energy")


def load(
    model: str | Path | onnx.ModelProto,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sample: Mapping[str, Array] | None = None,
) -> Program:
    """Read, check and normalise a model.

    Args:
        shapes: input -> the shape to plan for, where the model leaves dimensions open.
        sample: input -> array, on which answers are compared; it binds shapes too.

    Raises:
        ModelError, UsageError: see `partc.passes.ingest.read_model.read_model`.
    """
    return read_model(model, bindings=shapes, sample=sample)


def compile(
    model: str | Path | onnx.ModelProto,
    topology: Topology,
    *,
    output: str | Path,
    objective: str = "latency",
    pareto: tuple[str, str] | None = None,
    pipeline: str | Pipeline | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sample: Mapping[str, Array] | None = None,
    calibration: Sequence[Mapping[str, Array]] = (),
    force: bool = False,
    seed: int = 0,
    store: CostStore | None = None,
    use_store: bool = True,
    check: bool = True,
    costs: Literal["any", "measured"] = "any",
    imports: Mapping[str, ImportedCosts] | None = None,
    refine_budget_s: float | None = None,
    credentials: str | Path | None = None,
    progress: Progress = no_progress,
    observers: Sequence[Observer] = (),
) -> Bundle:
    """Compile a model for the hosts of a topology, and write the bundle.

    Args:
        output: the folder to write; it appears whole or not at all.
        objective: what the placement minimises: one of `OBJECTIVES`.
        pareto: two objectives whose trade-offs the manifest and the report show as well.
        pipeline: passes to run instead of the default ones.
        force: replace a bundle that is already there.
        store: measured costs of earlier compilations; the user's own if None.
        use_store: off measures everything anew and keeps nothing.
        calibration: inputs of the model from which hosts with ``precision = "int8"`` take the
            ranges of their tensors; the sample if there are none.
        imports: host -> a profile that was taken there (`partc.imports`), in place of measuring.
        costs: ``measured`` refuses hosts whose costs would have to be estimated.
        refine_budget_s: seconds in which segments of plans that could win are measured and the
            costs corrected; 0 trusts the costs of blocks, None is the pass's own default.
        credentials: folder by which the agents of hosts are called; see
            `partc.runtime.credentials`.

    Raises:
        PartcError: one sentence on what is wrong and what to do.
    """
    output = Path(output)
    if objective not in OBJECTIVES:
        raise UsageError(f"objective {objective!r} is not one of {', '.join(OBJECTIVES)}")
    refuse_existing(output, force)
    passes = pipeline if isinstance(pipeline, Pipeline) else _parse(pipeline)
    if objective != "latency":
        passes = passes.with_option("partition", objective=objective)
        passes = passes.with_option("refine-costs", objective=objective)
    passes = passes.with_precision(topology)
    if costs != "any":
        passes = passes.with_option("annotate-costs", costs=costs)
    if refine_budget_s is not None:
        passes = passes.with_option("refine-costs", budget_s=refine_budget_s)
    if pareto is not None:
        passes = passes.with_option("partition", pareto="/".join(pareto))
    if objective == "throughput":  # requests come one after the other, without a pause
        passes = passes.with_option("annotate-costs", pause_ms=0.0)
        passes = passes.with_option("refine-costs", pause_ms=0.0)
    from partc.engine_feedback import Restart, built
    from partc.passes.emit.emit_bundle import emit_bundle
    from partc.passes.emit.workshop import Workshop
    from partc.report import render_report

    program = load(model, shapes=shapes, sample=sample)
    if use_store and store is None:
        store = CostStore()
    restart = Restart(passes)
    with ExitStack() as stack:
        builders = stack.enter_context(_builders_of(topology, credentials))
        asked = _measured_elsewhere(topology, builders)
        meters, notices = stack.enter_context(meters_of(asked, credentials, True))
        notices += tuple(each.notice for each in builders.values() if each.notice)
        kept = store if use_store else None
        known = link_costs(topology, meters, kept, progress)
        topology, notices = known.topology, (*notices, *known.notices)
        context = Context(
            topology,
            store=kept,
            message_cost=known.cost,
            exchange_cost=partial(measured_exchange_cost, store=kept, progress=progress),
            seed=seed,
            progress=progress,
            imports=imports or {},
            meters=meters,
            calibration=tuple(calibration),
        )
        program = replace(program, notices=(*program.notices, *notices))
        program = passes.run(
            program, topology, context=context, check=check, observers=(restart, *observers)
        )
        workshop = stack.enter_context(Workshop(topology, builders))

        def emit(program: Program) -> Manifest:
            progress("writing the bundle", None)
            return emit_bundle(
                program,
                topology,
                str(passes),
                output,
                force=force,
                render_report=render_report,
                progress=progress,
                workshop=workshop,
            )

        manifest = built(
            program, emit, restart, context, workshop, check=check, observers=observers
        )
    return Bundle(output, manifest)


def open_bundle(path: str | Path | Bundle, **options: Any) -> Deployment:
    """Open a bundle on the host where requests start; see `partc.runtime.device.open_bundle`.

    ``credentials`` may be the name of a folder.
    """
    from partc.runtime.device import open_bundle as open_on_device

    if isinstance(options.get("credentials"), str | Path):
        from partc.runtime.credentials import Credentials

        options["credentials"] = Credentials.load(Path(options["credentials"]))
    return open_on_device(path.path if isinstance(path, Bundle) else path, **options)


@contextmanager
def meters_of(
    topology: Topology, credentials: str | Path | None, absent_will_do: bool = False
) -> Iterator[tuple[Mapping[str, Meter], tuple[str, ...]]]:
    """What measures on the hosts that have an agent, and what is to be said of them.

    Args:
        absent_will_do: what the store has of a node is enough where its agent cannot be reached.

    Raises:
        PartcError: an agent cannot be asked, or needs other credentials.
    """
    if all(host.agent is None for host in topology.hosts.values()):
        yield {}, ()
        return
    from partc.agent.meter import measuring_agents, notices

    folder = None if credentials is None else Path(credentials)
    with measuring_agents(topology, folder, absent_will_do=absent_will_do) as meters:
        yield meters, notices(meters)


@contextmanager
def _builders_of(
    topology: Topology, credentials: str | Path | None
) -> Iterator[Mapping[str, AgentBuilder]]:
    """What builds engines on the hosts that have an agent."""
    if all(host.agent is None for host in topology.hosts.values()):
        yield {}
        return
    from partc.agent.builder import building_agents

    with building_agents(topology, None if credentials is None else Path(credentials)) as builders:
        yield builders


def _measured_elsewhere(topology: Topology, builders: Mapping[str, AgentBuilder]) -> Topology:
    if not builders:
        return topology
    from partc.agent.builder import measured_elsewhere

    return measured_elsewhere(topology, builders)


def _parse(text: str | None) -> Pipeline:
    return Pipeline.parse(DEFAULT_PIPELINE if text is None else text)
