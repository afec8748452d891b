"""Times of segments, measured beside the whole model so that a machine's moods cancel."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from partc.errors import TargetError
from partc.ir.cost import Cost
from partc.ir.program import Array, Program
from partc.ir.segment import Segment
from partc.measure.entries import About
from partc.measure.keys import CostKey
from partc.measure.signature import ops_label, ops_signature
from partc.measure.statistics import summarise
from partc.passes.annotate.deployed_model import deployed_model
from partc.passes.annotate.stored_costs import find_costs
from partc.passes.build.rewriting import rewritten
from partc.passes.contract import Context
from partc.passes.ingest.sample import sample_feeds
from partc.targets.absent import AbsentMeter
from partc.targets.meter import Job, Meter, place_of
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.reference import open_reference
from partc.targets.settings import run_settings


@dataclass(frozen=True)
class SegmentTimes:
    """What was measured of one plan.

    Attributes:
        costs: (host, ops) -> what the segment costs on its host.
        drift: how many times longer the whole model takes now than its stored cost says.
    """

    costs: Mapping[tuple[str, tuple[str, ...]], Cost]
    drift: float


class SegmentMeter:
    """Measures segments as the runtime runs them; each once, and from the store where it can.

    A machine that others share is a third faster in one minute than in the next. Segments take
    turns with the whole model, run by run, and their time is given in units of the whole model's
    known time, so that what is compared was measured under the same conditions.

    Both are in the precision of the host. For int8 one sample does: which ranges tensors have
    changes what is computed, and not how long it takes.
    """

    def __init__(self, program: Program, context: Context, sampling: Sampling) -> None:
        self._program = program
        self._context = context
        self._sampling = sampling
        self._known: dict[tuple[str, RunSettings, tuple[str, ...]], Cost] = {}
        self._held: dict[str, Array] = {}
        self._drifts: list[float] = []
        self.failures: list[str] = []

    def measure(self, segments: Iterable[Segment], budget_s: float) -> SegmentTimes:
        """Time every segment that can be timed; a host that cannot be measured is left out.

        Args:
            budget_s: seconds to spend about; a few runs of each segment are taken in any case.
        """
        segments = tuple(segments)
        self._sampling = replace(self._sampling, budget_s=budget_s / 2)
        costs: dict[tuple[str, tuple[str, ...]], Cost] = {}
        for host in dict.fromkeys(segment.host for segment in segments):
            mine = [segment for segment in segments if segment.host == host]
            slowdown = self._context.topology.hosts[host].slowdown
            for segment, cost in self._of_host(host, mine, segments):
                costs[host, segment.ops] = cost.scaled(slowdown)
        return SegmentTimes(costs, statistics.median(self._drifts) if self._drifts else 1.0)

    def _of_host(
        self, host: str, mine: list[Segment], every: tuple[Segment, ...]
    ) -> list[tuple[Segment, Cost]]:
        meter = self._context.meter(host)
        absent = isinstance(meter, AbsentMeter)
        if host in self._context.imports or not (absent or meter.detect().available):
            return []  # nothing of it can be measured here
        settings = run_settings(self._context.topology.hosts[host])
        fingerprint, mode = place_of(meter)
        asked = self._context.topology.hosts[host].power_mode
        place = f"{meter.backend_name} {meter.where} {asked}"
        wanted = {s.id: self._key(s, host, fingerprint, asked or mode, settings) for s in mine}
        keys = {name: str(key) for name, key in wanted.items()}
        if self._context.store is not None:
            found = find_costs(self._context.store, wanted, of_any_mode=asked is None)
            for segment in mine:
                if segment.id in found:
                    self._known[place, settings, segment.ops] = found[segment.id]
        for segment in mine:
            if len(segment.ops) == len(self._program.placed_ops):
                self._known[place, settings, segment.ops] = self._whole(host)
        missing = [s for s in mine if (place, settings, s.ops) not in self._known]
        if missing and isinstance(meter, AbsentMeter):
            self.failures.append(f"segments of host {host!r} were not measured: {meter.reason}")
        elif missing and asked not in (None, mode):
            self.failures.append(
                f"segments of host {host!r} were not measured: it is to run in power mode "
                f"{asked!r}, and is in {mode or 'none'!r}"
            )
        elif missing:
            try:
                fresh = self._measured(host, meter, settings, missing, every)
            except TargetError as error:
                self.failures.append(f"segments of host {host!r} could not be measured: {error}")
                fresh = {}
            for segment in missing:
                if segment.id in fresh:
                    self._known[place, settings, segment.ops] = fresh[segment.id]
            if self._context.store is not None and fresh:
                about = {keys[s.id]: self._about(s) for s in missing}
                self._context.store.add({keys[name]: cost for name, cost in fresh.items()}, about)
        return [
            (segment, self._known[place, settings, segment.ops])
            for segment in mine
            if (place, settings, segment.ops) in self._known
        ]

    def _measured(
        self,
        host: str,
        meter: Meter,
        settings: RunSettings,
        missing: list[Segment],
        every: tuple[Segment, ...],
    ) -> dict[str, Cost]:
        assert self._program.costs is not None
        slowdown = self._context.topology.hosts[host].slowdown
        known_s = self._program.costs.whole_s[host] / slowdown
        feeds = self._tensors(every)
        tiled = self._program.tiled
        if tiled is None:
            whole_model = deployed_model(self._program, self._context, host).model
        else:
            whole_model = rewritten(tiled.model, settings.precision, [feeds])
        jobs: list[Job] = [(whole_model, feeds)]
        for segment in missing:
            assert segment.model is not None
            given = {name: feeds[name] for name in segment.inputs}
            jobs.append((rewritten(segment.model, settings.precision, [given]), given))
        whole, *rows = meter.interleaved_times(jobs, settings, self._sampling)
        self._drifts.append(statistics.median(whole) / known_s)
        return {
            segment.id: summarise(
                [known_s * part / all_of_it for part, all_of_it in zip(row, whole, strict=True)]
            )
            for segment, row in zip(missing, rows, strict=True)
        }

    def _whole(self, host: str) -> Cost:
        """The segment that is the whole model was measured as such."""
        assert self._program.costs is not None
        slowdown = self._context.topology.hosts[host].slowdown
        whole_s = self._program.costs.whole_s[host] / slowdown
        return Cost(whole_s, 0.0, 1, "measured")

    def _tensors(self, segments: tuple[Segment, ...]) -> dict[str, Array]:
        """Everything that the segments read, from a run of them on the sample input."""
        if not self._held:
            self._held.update(sample_feeds(self._program, self._context.seed))
        for segment in segments:
            if all(name in self._held for name in segment.outputs):
                continue
            assert segment.model is not None
            with open_reference(segment.model) as runner:
                self._held.update(runner.run(self._held))
        return self._held

    def _key(
        self, segment: Segment, host: str, fingerprint: str, mode: str, settings: RunSettings
    ) -> CostKey:
        """Times are in units of the whole model's known time, so that belongs to the key."""
        assert self._program.costs is not None
        whole_s = self._program.costs.whole_s[host] / self._context.topology.hosts[host].slowdown
        digest = hashlib.sha256(ops_signature(self._program, segment.ops).encode())
        digest.update(f"|{len(segment.inputs)}|{len(segment.outputs)}|{whole_s:.9g}".encode())
        pause_ms = self._sampling.pause_s * 1e3
        return CostKey("segment", digest.hexdigest(), fingerprint, settings.key, pause_ms, mode)

    def _about(self, segment: Segment) -> About:
        return About(ops_label(self._program, segment.ops), self._program.name)
