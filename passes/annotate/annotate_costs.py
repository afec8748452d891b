"""annotate-costs: what every block costs on every host, measured as it will be deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import onnx

from partc.errors import TargetError
from partc.ir.cost import Cost, CostTable
from partc.ir.program import Program
from partc.measure.signature import block_signature
from partc.measure.statistics import summarise
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.sample import sample_feeds
from partc.passes.partition.constraints import problem_constraints
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.estimate import estimated_costs
from partc.targets.meter import Meter
from partc.targets.protocol import Profile, RunSettings, Sampling
from partc.targets.settings import run_settings
from partc.targets.support import unsupported_by_host

_WHOLE, _SEGMENT = "whole", "segment-fixed"
_FIXED_RUNS = 15
_LEAST_OWN_SHARE = 0.05  # of a tiny model's time that its blocks keep


@dataclass(frozen=True)
class AnnotateCosts(Pass):
    """Measures blocks on this machine, or takes them from the store.

    A block's cost is the median time of its kernels, scaled so that all blocks together, and
    what a segment costs before it computes anything, take as long as the whole model does without
    the profiler. A host's ``slowdown`` multiplies it.

    Attributes:
        repeats: runs of the model.
        budget_s: seconds after which fewer runs will do.
        pause_ms: idle time before each run, as between single requests; 0 for a busy pipeline.
        fresh: measure even what the store has.
        costs: ``measured`` refuses hosts whose costs nobody measured; ``any`` estimates them.
    """

    name: ClassVar[str] = "annotate-costs"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("blocked", "typed")
    ensures: ClassVar[tuple[str, ...]] = ("costed",)

    repeats: int = 40
    budget_s: float = 8.0
    pause_ms: float = 50.0
    fresh: bool = False
    costs: Literal["any", "measured"] = "any"

    def run(self, program: Program, context: Context) -> PassResult:
        """Measure once for each kind of host, then scale."""
        # What names nothing is found before anything is measured.
        problem_constraints(program, context.topology)
        refused = unsupported_by_host(program, context.topology, context.meters)
        costs: dict[str, dict[str, Cost]] = {block.name: {} for block in program.blocks or ()}
        fixed_s: dict[str, float] = {}
        whole_s: dict[str, float] = {}
        diagnostics: list[str] = []
        measured: dict[tuple[str, str, RunSettings], dict[str, Cost]] = {}
        for name, host in context.topology.hosts.items():
            meter = context.meter(name)
            settings = run_settings(host)
            key = (meter.backend_name, meter.where, settings)
            if key not in measured:
                if isinstance(meter, DataSheetMeter):
                    measured[key], said = self._estimate(program, name, meter, settings)
                else:
                    measured[key], said = self._measure(program, context, meter, settings)
                diagnostics.append(said)
            table = measured[key]
            fixed_s[name] = table[_SEGMENT].median_s * host.slowdown
            whole_s[name] = table[_WHOLE].median_s * host.slowdown
            for block in program.blocks or ():
                if not any(op in refused[name] for op in block.ops):
                    costs[block.name][name] = table[block.name].scaled(host.slowdown)
        table_of_all = CostTable(costs, fixed_s, whole_s, context.message_cost)
        notices = program.notices
        if context.store is not None and context.store.notice:
            notices = (*notices, context.store.notice)
        annotated = replace(program, costs=table_of_all, notices=notices)
        return PassResult(annotated, True, tuple(diagnostics))

    @property
    def _sampling(self) -> Sampling:
        return Sampling(self.repeats, self.budget_s, self.pause_ms * 1e-3)

    def _estimate(
        self, program: Program, host: str, meter: DataSheetMeter, settings: RunSettings
    ) -> tuple[dict[str, Cost], str]:
        if self.costs == "measured":
            raise TargetError(
                f"host {host!r} has no measured costs: {meter.reason}; name its agent in the "
                "topology (agent = ...), import costs with --costs-from, or allow estimates by "
                "leaving --costs measured out",
                host=host,
            )
        found = estimated_costs(program, meter.target, settings)
        costs = {**found.blocks, _WHOLE: found.whole, _SEGMENT: found.segment_fixed}
        return costs, (
            f"{meter.target.name}: estimated from its data sheet, in {found.precision}; "
            f"{meter.reason}"
        )

    def _measure(
        self, program: Program, context: Context, meter: Meter, settings: RunSettings
    ) -> tuple[dict[str, Cost], str]:
        named = f"{meter.backend_name}{meter.where and f' on {meter.where}'}"
        keys = _store_keys(program, meter, settings, self.pause_ms)
        known: dict[str, Cost] = {}
        if context.store is not None and not self.fresh:
            found = context.store.find(keys.values())
            known = {name: found[key] for name, key in keys.items() if key in found}
        if len(known) == len(keys):
            return known, f"{named}: all {len(keys)} costs found in the store"
        context.progress(f"measuring on {named}", None)
        profile = meter.profile(
            program.model,
            sample_feeds(program, context.seed),
            settings,
            self._sampling,
        )
        fixed = _segment_fixed_cost(meter, settings, self._sampling)
        fresh = {**_block_costs(program, profile, fixed.median_s), _SEGMENT: fixed}
        fingerprint = meter.detect().fingerprint
        fresh = {name: replace(cost, fingerprint=fingerprint) for name, cost in fresh.items()}
        if context.store is not None:
            context.store.add(_by_key(keys, fresh))
        return fresh, (
            f"{named}: measured {len(program.blocks or ())} blocks, "
            f"{len(profile.whole_s)} runs of {fresh[_WHOLE].median_s * 1e3:.2f} ms"
        )


def _store_keys(
    program: Program, meter: Meter, settings: RunSettings, pause_ms: float
) -> dict[str, str]:
    fingerprint = meter.detect().fingerprint
    suffix = f"{fingerprint}|{settings.threads}|{settings.optimization}|pause {pause_ms:g} ms"
    signatures = {block.name: block_signature(program, block) for block in program.blocks or ()}
    whole = hashlib.sha256("".join(signatures.values()).encode()).hexdigest()
    keys = {name: f"block|{signature}|{suffix}" for name, signature in signatures.items()}
    return {**keys, _WHOLE: f"whole|{whole}|{suffix}", _SEGMENT: f"{_SEGMENT}|{suffix}"}


def _by_key(keys: Mapping[str, str], costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Key -> cost; of blocks that are alike, the one in the middle."""
    found: dict[str, list[Cost]] = {}
    for name, cost in costs.items():
        found.setdefault(keys[name], []).append(cost)
    return {
        key: sorted(alike, key=lambda cost: cost.median_s)[len(alike) // 2]
        for key, alike in found.items()
    }


def _block_costs(program: Program, profile: Profile, fixed_s: float) -> dict[str, Cost]:
    """Blocks together take as long as the whole model less what any segment takes to begin."""
    runs = len(profile.whole_s)
    samples: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {
        block.name: np.zeros(runs) for block in program.blocks or ()
    }
    for op, samples_s in profile.op_s.items():
        if op in program.block_of:  # constant ops have kernels, but no host and no block
            samples[program.block_of[op].name] += np.asarray(samples_s)[:runs]
    medians = sum(float(np.median(row)) for row in samples.values())
    whole = summarise(profile.whole_s)
    own_s = max(whole.median_s - fixed_s, _LEAST_OWN_SHARE * whole.median_s)
    scale = own_s / medians if medians > 0 else 1.0
    costs = {name: summarise(row.tolist(), scale) for name, row in samples.items()}
    return {**costs, _WHOLE: whole}


def _segment_fixed_cost(meter: Meter, settings: RunSettings, sampling: Sampling) -> Cost:
    """What a segment costs before it computes anything: one op on one number."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "fixed",
        [info("x", onnx.TensorProto.FLOAT, [1])],
        [info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    feeds = {"x": np.zeros(1, np.float32)}
    few = replace(sampling, repeats=_FIXED_RUNS)
    return summarise(meter.run_times(model, feeds, settings, few))
