"""Do predictions come true? ``python -m benchmarks.fidelity [MODEL ...]``.

For every plan of a set (device-only, edge-only, optimal, random legal cuts) and every bandwidth of
an emulated link: predicted against measured latency, end to end between two processes. Prints the
median and the 95th percentile of the relative error, and the regret: measured latency of the plan
that was chosen over that of the best plan that was measured.

A machine that others share computes up to a third faster in one minute than in the next. The whole
model is therefore timed before and after the requests of each plan; ``steady`` columns scale the
predicted computing by how much slower it was then than when the costs were measured, and so show
the error of the prediction without that of the machine. Plain columns do not.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import partc
from benchmarks.given_plans import Placement, deployed, predicted_s, random_cut
from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.ir.program import Array
from partc.ir.topology import Topology
from partc.measure.store import CostStore
from partc.message_cost import measured_message_cost
from partc.optimizer import evaluate
from partc.passes.contract import Context
from partc.passes.ingest.sample import sample_feeds
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.solving import solve_with_losses
from partc.pipeline import Pipeline
from partc.runtime.local import LocalDeployment
from partc.targets.protocol import Sampling
from partc.targets.settings import run_settings

BANDWIDTHS_MBIT_S = (1.0, 5.0, 20.0, 100.0, 1000.0)
RTT_MS = 10.0
SLOWDOWN = 4.0
PAUSE_S = 0.05
ANNOTATE = "infer-shapes,fold-constants,group-blocks,annotate-costs"
_ANCHOR = Sampling(repeats=7, budget_s=2.0, pause_s=PAUSE_S)
_WARMUP_REQUESTS = 2
_FEWEST_REQUESTS = 3


@dataclass(frozen=True)
class Measured:
    """One plan at one bandwidth; seconds.

    Attributes:
        steady_s: what is predicted for a machine as fast as it was when the plan was measured.
    """

    model: str
    bandwidth_mbit_s: float
    plan: str
    predicted_s: float
    steady_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Of the prediction, relative to what was measured."""
        return abs(self.predicted_s - self.measured_s) / self.measured_s

    @property
    def steady_error(self) -> float:
        """The same for a machine that does not change."""
        return abs(self.steady_s - self.measured_s) / self.measured_s


def topology_at(bandwidth_mbit_s: float) -> Topology:
    """A camera and a server, joined by a link of that bandwidth."""
    link = {"between": ["camera", "server"], "bandwidth_mbit_s": bandwidth_mbit_s, "rtt_ms": RTT_MS}
    return Topology.parse(
        {"hosts": {"camera": {"slowdown": SLOWDOWN}, "server": {}}, "links": [link]}
    )


class Study:
    """All plans of one model at all bandwidths."""

    def __init__(self, name: str, given: argparse.Namespace, store: CostStore) -> None:
        self.name = name
        self.given = given
        self.topologies = {b: topology_at(b) for b in given.bandwidths}
        self.message_cost = measured_message_cost(store)
        self.store = store
        source = MODELS[name]() if name in MODELS else name
        program = partc.load(source)
        topology = topology_at(20.0)
        self.program = Pipeline.parse(ANNOTATE).run(
            program, topology, context=self._context(topology)
        )

    def _context(self, topology: Topology) -> Context:
        return Context(topology, store=self.store, message_cost=self.message_cost)

    def rows(self) -> list[Measured]:
        """Measure plan after plan, each at every bandwidth where it is of interest."""
        generator = random.Random(0)
        blocks = [block.name for block in self.program.blocks or ()]
        names: dict[tuple[str, ...], str] = {}
        plans: dict[str, Placement] = {}

        def add(label: str, placement: Placement) -> str:
            key = tuple(placement[block] for block in blocks)
            plans.setdefault(names.setdefault(key, label), placement)
            return names[key]

        add("device-only", dict.fromkeys(blocks, "camera"))
        add("edge-only", dict.fromkeys(blocks, "server"))
        for number in range(self.given.cuts):
            add(f"random-{number}", random_cut(self.program, generator))
        chosen: dict[float, str] = {}
        promised: dict[tuple[str, float], float] = {}
        for bandwidth, topology in self.topologies.items():
            placement, seconds = self._chosen(topology)
            chosen[bandwidth] = add(f"optimal at {bandwidth:g}", placement)
            promised[chosen[bandwidth], bandwidth] = seconds
        rows: list[Measured] = []
        for label, placement in plans.items():
            rows += self._of_plan(label, placement, promised)
        optimal = [
            Measured(**{**vars(row), "plan": "optimal"})
            for row in rows
            if chosen[row.bandwidth_mbit_s] == row.plan
        ]
        return [*(row for row in rows if not row.plan.startswith("optimal at")), *optimal]

    def _chosen(self, topology: Topology) -> tuple[Placement, float]:
        """The plan that a compilation chooses, and what it promises."""
        refine = Pipeline.parse("refine-costs").with_option(
            "refine-costs", budget_s=self.given.refine_budget
        )
        program = refine.run(self.program, topology, context=self._context(topology))
        problem, solution = solve_with_losses(program, topology)
        return solution.placement, evaluate(problem, solution.placement).latency_s

    def _of_plan(
        self, label: str, placement: Placement, promised: dict[tuple[str, float], float]
    ) -> list[Measured]:
        rows: list[Measured] = []
        first = self.topologies[max(self.topologies)]
        before = self._anchor_s()
        found: list[tuple[float, float, float]] = []
        with deployed(self.program, first, placement) as (local, feeds):
            for bandwidth, topology in self.topologies.items():
                expected_s = predicted_s(self.program, topology, placement)
                if "server" in placement.values():
                    local.set_bandwidth("camera", "server", bandwidth)
                found.append((bandwidth, expected_s, self._measure(local, feeds, expected_s)))
        assert self.program.costs is not None
        moved = statistics.mean((before, self._anchor_s())) / self.program.costs.whole_s["server"]
        for bandwidth, expected_s, measured_s in found:
            says_s = promised.get((label, bandwidth), expected_s)
            problem = placement_problem(self.program, self.topologies[bandwidth])
            compute_s = sum(evaluate(problem, placement).compute_s.values())
            steady_s = says_s + compute_s * (moved - 1)
            rows.append(Measured(self.name, bandwidth, label, says_s, steady_s, measured_s))
        return rows

    def _anchor_s(self) -> float:
        """How long the whole model takes on this machine now."""
        context = Context(topology_at(20.0))
        settings = run_settings(context.topology.hosts["server"])
        feeds = sample_feeds(self.program, context.seed)
        samples = context.meter("server").run_times(self.program.model, feeds, settings, _ANCHOR)
        return statistics.median(samples)

    def _measure(
        self, local: LocalDeployment, feeds: Mapping[str, Array], expected_s: float
    ) -> float:
        wanted = int(self.given.seconds / (expected_s + PAUSE_S))
        requests = min(max(wanted, _FEWEST_REQUESTS), self.given.requests)
        warmup = _WARMUP_REQUESTS if expected_s < self.given.seconds / 4 else 1
        samples: list[float] = []
        for _ in range(requests + warmup):
            time.sleep(PAUSE_S)
            answer = local.request(feeds)
            assert not answer.failures, answer.failures
            samples.append(answer.latency_s)
        return statistics.median(samples[warmup:])


def regrets(rows: list[Measured]) -> list[float]:
    """At each bandwidth: the chosen plan's measured latency over the best one's, less 1."""
    found: list[float] = []
    for bandwidth in dict.fromkeys(row.bandwidth_mbit_s for row in rows):
        here = [row for row in rows if row.bandwidth_mbit_s == bandwidth]
        chosen = next(row for row in here if row.plan == "optimal")
        found.append(chosen.measured_s / min(row.measured_s for row in here) - 1)
    return found


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity")
    parser.add_argument("models", nargs="*", default=["mobilenetv2"], help="names or ONNX files")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--requests", type=int, default=9, help="at most, of each plan")
    parser.add_argument("--seconds", type=float, default=8.0, help="about, of each plan and rate")
    parser.add_argument("--bandwidths", type=float, nargs="*", default=list(BANDWIDTHS_MBIT_S))
    parser.add_argument("--refine-budget", type=float, default=6.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path, help="a file for every plan's row, as --json prints")
    given = parser.parse_args()
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        store = CostStore(Path(folder) / "costs.sqlite")
        if not given.json:
            print(describe_machine())
            print(
                f"{'model':22}{'Mbit/s':>7}{'plans':>6}{'median':>9}{'95 %':>8}"
                f"{'steady':>9}{'95 %':>8}{'regret':>9}"
            )
        for name in given.models:
            mine = Study(name, given, store).rows()
            rows += mine
            _save(rows, given.save)
            if given.json:
                continue
            for bandwidth in given.bandwidths:
                _print_row(
                    "", f"{bandwidth:g}", [r for r in mine if r.bandwidth_mbit_s == bandwidth]
                )
            _print_row(Path(name).stem, "all", mine)
    if given.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
    elif len(given.models) > 1:
        _print_row("every model", "all", rows, regret=max(_by_model(rows)))


def _save(rows: list[Measured], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps([vars(row) for row in rows], indent=1))


def _by_model(rows: list[Measured]) -> list[float]:
    models = dict.fromkeys(row.model for row in rows)
    return [max(regrets([row for row in rows if row.model == model])) for model in models]


def _print_row(
    name: str, bandwidth: str, rows: list[Measured], regret: float | None = None
) -> None:
    errors, steady = [row.error for row in rows], [row.steady_error for row in rows]
    regret = max(regrets(rows)) if regret is None else regret
    print(
        f"{name:22}{bandwidth:>7}{len(rows):>6}"
        f"{100 * statistics.median(errors):>8.1f}%{100 * float(np.quantile(errors, 0.95)):>7.1f}%"
        f"{100 * statistics.median(steady):>8.1f}%{100 * float(np.quantile(steady, 0.95)):>7.1f}%"
        f"{100 * regret:>8.1f}%",
        flush=True,
    )


if __name__ == "__main__":
    main()
