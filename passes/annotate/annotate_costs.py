"""annotate-costs: what every block costs on every host, measured as it will be deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

from partc.errors import TargetError
from partc.imports.attribution import attribute
from partc.imports.imported import ImportedCosts
from partc.ir.cost import Cost, CostTable
from partc.ir.program import Program
from partc.ir.refusal import Refusal
from partc.ir.topology import Host
from partc.measure.elsewhere import costs_of_machine, other_settings_notice
from partc.measure.power_mode import in_mode
from partc.passes.annotate.block_costs import (
    SEGMENT,
    WHOLE,
    block_costs,
    fitted_to_whole,
    own_share,
    segment_fixed_cost,
    whole_of_parts,
)
from partc.passes.annotate.deployed_model import asked_model, deployed_model
from partc.passes.annotate.stored_costs import CostKeys
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.sample import sample_feeds
from partc.passes.partition.constraints import problem_constraints
from partc.targets.absent import AbsentMeter
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.estimate import estimated_costs
from partc.targets.here import why_other_hardware
from partc.targets.meter import Meter, place_of
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.settings import run_settings
from partc.targets.support import refusals_said, refuse_without_host, unsupported_by_host


@dataclass(frozen=True)
class AnnotateCosts(Pass):
    """Measures blocks on each host's hardware, or takes them from the store or from a profile.

    What is measured is the model in the precision of the host, as its segments will be; casts and
    quantisation count to the ops that they are there for. A block's cost is the median time of its
    kernels, scaled so that all blocks together, and what a segment costs before it computes
    anything, take as long as the whole model does without the profiler. A host's ``slowdown``
    multiplies it. For hardware that is not here, costs come from its agent, from a profile that was
    taken there, from costs that were imported into the store, or, if there is none of these, from
    an estimate by its data sheet.

    Attributes:
        repeats: most runs of the model; fewer when the median is known within 2 %.
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
        refused = unsupported_by_host(
            program, context.topology, context.meters, partial(asked_model, program, context)
        )
        refuse_without_host(program, (block.ops for block in program.blocks or ()), refused)
        costs: dict[str, dict[str, Cost]] = {block.name: {} for block in program.blocks or ()}
        fixed_s: dict[str, float] = {}
        whole_s: dict[str, float] = {}
        precisions: dict[str, str] = {}
        known: dict[tuple[str, str, RunSettings, str], _Table] = {}
        for name, host in context.topology.hosts.items():
            meter, settings = context.meter(name), run_settings(host)
            own = f"{name * (name in context.imports)}|{host.power_mode}"
            key = (meter.backend_name, meter.where, settings, own)
            if key not in known:
                known[key] = _Source(self, program, context, name, meter, settings).table()
            table, precisions[name] = known[key].costs, known[key].precision
            fixed_s[name] = table[SEGMENT].median_s * host.slowdown
            whole_s[name] = table[WHOLE].median_s * host.slowdown
            for block in program.blocks or ():
                if not any(op in refused[name] for op in block.ops):
                    costs[block.name][name] = table[block.name].scaled(host.slowdown)
        table_of_all = CostTable(
            costs, fixed_s, whole_s, context.message_cost, precisions=precisions
        )
        notices = [*program.notices, *(n for each in known.values() for n in each.notices)]
        notices += refusals_said(refused)
        if context.store is not None and context.store.notice:
            notices.append(context.store.notice)
        annotated = replace(
            program,
            costs=table_of_all,
            notices=tuple(dict.fromkeys(notices)),
            refusals=tuple(
                Refusal(name, op, reason)
                for name, reasons in refused.items()
                for op, reason in reasons.items()
            ),
        )
        return PassResult(annotated, True, tuple(each.said for each in known.values()))

    @property
    def sampling(self) -> Sampling:
        """How often and how densely to measure."""
        return Sampling(self.repeats, self.budget_s, self.pause_ms * 1e-3)


@dataclass(frozen=True)
class _Table:
    """Costs of one kind of host by block, and of `WHOLE` and `SEGMENT`; ``precision`` is that in
    which they were found, and empty where a profile does not say."""

    costs: Mapping[str, Cost]
    said: str
    precision: str
    notices: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Source:
    """Where the costs of one kind of host come from."""

    options: AnnotateCosts
    program: Program
    context: Context
    host: str
    meter: Meter
    settings: RunSettings

    def table(self) -> _Table:
        imported = self.context.imports.get(self.host)
        if imported is not None:
            return self._imported(imported)
        if isinstance(self.meter, DataSheetMeter):
            return self._elsewhere(self.meter)
        return self._measured()

    @property
    def _named(self) -> str:
        where, precision = self.meter.where, self.settings.precision
        in_precision = "" if precision == "fp32" else f" in {precision}"
        return f"{self.meter.backend_name}{where and f' on {where}'}{in_precision}"

    @property
    def _command(self) -> str:
        host, model = self._described, self.program.source or "MODEL"
        # Only a topology says how engines are built.
        if host.agent is not None or self.settings.engine.changed:
            return f"partc profile {model} --topology TOPOLOGY --host {self.host}"
        precision = self.settings.precision
        return (
            f"partc profile {model} --target {host.target} --threads {self.settings.threads}"
            + (f" --precision {precision}" if precision != "fp32" else "")
            + (" --calibration SAMPLES" if precision == "int8" else "")
        )

    @property
    def _described(self) -> Host:
        return self.context.topology.hosts[self.host]

    def _keys(self, fingerprint: str, power: str) -> CostKeys:
        pause_ms = self.options.pause_ms
        return CostKeys.of(self.program, fingerprint, self.settings, pause_ms, power)

    def _measured(self) -> _Table:
        deployed = deployed_model(self.program, self.context, self.host)
        fingerprint, mode = place_of(self.meter)
        asked = self._described.power_mode
        keys, store = self._keys(fingerprint, asked or mode), self.context.store
        notices: list[str] = []
        if store is not None and not self.options.fresh:
            found = keys.find(store, of_any_mode=asked is None)
            said = f"{self._named}: all {len(found)} costs found in the store"
            if set(keys.keys) - set(found) == {WHOLE}:
                found = {**found, WHOLE: whole_of_parts(found)}
                said += ", of other models with the same blocks; the whole is their sum"
            if len(found) == len(keys.keys):
                found = fitted_to_whole(found)
                if isinstance(self.meter, AbsentMeter):
                    notices.append(self.meter.instead(found.values()))
                return _Table(found, said, self.settings.precision, tuple(notices))
            missing = [text for name, text in keys.texts.items() if name not in found]
            notices.append(other_settings_notice(store, missing, self._command))
        if isinstance(self.meter, AbsentMeter):
            raise self.meter.lacks("; ".join(notice for notice in notices if notice))
        if asked not in (None, mode):
            raise self._in_another_mode(mode)
        self.context.progress(f"measuring on {self._named}", None)
        sampling = self.options.sampling
        fixed = segment_fixed_cost(self.meter, self.settings, sampling)
        feeds = sample_feeds(self.program, self.context.seed)
        profile = deployed.attributed(
            self.meter.profile(deployed.model, feeds, self.settings, sampling)
        )
        place = in_mode(fingerprint, mode)
        fresh = {**block_costs(self.program, profile, fixed.median_s), SEGMENT: fixed}
        fresh = {name: replace(cost, fingerprint=place) for name, cost in fresh.items()}
        if store is not None:
            keys.add(store, fresh)
        said = (
            f"{self._named}: measured {len(self.program.blocks or ())} blocks, "
            f"{len(profile.whole_s)} runs of {fresh[WHOLE].median_s * 1e3:.2f} ms"
        )
        if profile.settled is False:
            half = 100 * fresh[WHOLE].interval_s / fresh[WHOLE].median_s
            said += "; did not settle"
            # With few runs, or times that rise or fall, a narrow interval says little.
            said += f": the median is known within {half:.0f} %" if half > 2 else ""
        notices.append(profile.conditions.sentence(self.meter.where))
        return _Table(fresh, said, self.settings.precision, tuple(n for n in notices if n))

    def _in_another_mode(self, mode: str) -> TargetError:
        there = self.meter.where or "this machine"
        return TargetError(
            f"host {self.host!r} is to run in power mode {self._described.power_mode!r}, of which "
            f"the store has not all costs, and {there} "
            + (f"is in {mode!r}" if mode else "shows no power mode")
            + f"; set the mode there and measure with {self._command}, or leave power_mode out of "
            "the topology",
            host=self.host,
        )

    def _elsewhere(self, meter: DataSheetMeter) -> _Table:
        """Costs that came from such a machine with ``partc costs import``, or an estimate."""
        notices: tuple[str, ...] = ()
        if self.context.store is not None:
            found = costs_of_machine(
                self.context.store,
                self._keys("", self._described.power_mode or "").keys,
                self._is_of(meter),
                self._command,
            )
            if found.costs:
                said = f"{meter.target.name}: measured on {found.fingerprint}, from the store"
                return _Table(found.costs, said, self.settings.precision)
            notices = (found.notice,) if found.notice else ()
        if self.options.costs == "measured":
            raise TargetError(
                f"host {self.host!r} has no measured costs: {meter.reason}; name its agent in the "
                "topology (agent = ...), import costs with --costs-from, or allow estimates by "
                "leaving --costs measured out",
                host=self.host,
            )
        asked = self.context.topology.hosts[self.host].precision
        estimates = estimated_costs(
            self.program, meter.target, self.settings, None if asked == "fp32" else asked
        )
        costs = {
            **estimates.blocks,
            WHOLE: estimates.whole,
            SEGMENT: estimates.segment_fixed,
        }
        return _Table(
            costs,
            f"{meter.target.name}: estimated from its {meter.target.hardware.figures}, in "
            f"{estimates.precision}; "
            f"{meter.reason}",
            estimates.precision,
            notices,
        )

    def _is_of(self, meter: DataSheetMeter) -> Callable[[str], bool]:
        """Whether a fingerprint is of the target's backend and hardware."""
        target = meter.target

        def accepts(fingerprint: str) -> bool:
            is_backend = fingerprint.startswith(f"{target.backend}-")
            known = bool(target.hardware.recognised_by)
            return is_backend and known and not why_other_hardware(target, [fingerprint])

        return accepts

    def _imported(self, imported: ImportedCosts) -> _Table:
        """Times of a profile that was taken there."""
        found = attribute(imported, self.program)
        notices = [f"host {self.host!r}: {notice}" for notice in found.notices]
        if isinstance(self.meter, DataSheetMeter):
            fixed = Cost(0.0, 0.0, 0, "estimated")
            if self.meter.target.hardware.has_rates:
                fixed = estimated_costs(
                    self.program, self.meter.target, self.settings
                ).segment_fixed
            if self.options.costs == "measured":
                raise TargetError(
                    f"host {self.host!r} has no measured cost of one more segment, which a profile "
                    "does not tell; name its agent in the topology (agent = ...), or allow "
                    "estimates by leaving --costs measured out",
                    host=self.host,
                )
            taken = f"estimated as {fixed.median_s * 1e6:.3g} µs" if fixed.median_s else "left out"
            notices.append(
                f"host {self.host!r}: a profile does not tell what one more segment costs; it is "
                f"{taken}"
            )
        else:
            fixed = segment_fixed_cost(self.meter, self.settings, self.options.sampling)
        share = own_share(found.whole.median_s, fixed.median_s)
        costs = {
            name: replace(cost, median_s=cost.median_s * share)
            for name, cost in found.costs.items()
        }
        return _Table(
            {**costs, WHOLE: found.whole, SEGMENT: fixed},
            f"{self.host}: {len(costs)} blocks from {imported.title}",
            "",
            tuple(notices),
        )
