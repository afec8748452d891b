"""Do predictions come true? ``python -m benchmarks.fidelity [MODEL ...]``.

For every plan of a set (device-only, edge-only, optimal, random legal cuts) and every bandwidth of
an emulated link: predicted against measured latency, end to end between two processes. Prints the
median and the 95th percentile of the relative error, and the regret: measured latency of the plan
that was chosen over that of the best plan that was measured.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import partc
from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.ir.plan import Certificate, Plan
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.message_cost import measured_message_cost
from partc.optimizer import evaluate, minimum_cut
from partc.passes.contract import Context
from partc.passes.emit.emit_bundle import emit_bundle
from partc.passes.partition.portfolio import op_placement
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.transfers import transfers_of
from partc.pipeline import Pipeline
from partc.runtime.local import LocalDeployment

BANDWIDTHS_MBIT_S = (1.0, 5.0, 20.0, 100.0, 1000.0)
RTT_MS = 10.0
SLOWDOWN = 4.0
PAUSE_S = 0.05
ANNOTATE = "infer-shapes,fold-constants,group-blocks,annotate-costs"


@dataclass(frozen=True)
class Measured:
    """One plan at one bandwidth; seconds."""

    model: str
    bandwidth_mbit_s: float
    plan: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Of the prediction, relative to what was measured."""
        return abs(self.predicted_s - self.measured_s) / self.measured_s


def topology_at(bandwidth_mbit_s: float) -> Topology:
    """A camera and a server, joined by a link of that bandwidth."""
    return Topology.parse(
        {
            "hosts": {"camera": {"slowdown": SLOWDOWN}, "server": {}},
            "links": [
                {
                    "between": ["camera", "server"],
                    "bandwidth_mbit_s": bandwidth_mbit_s,
                    "rtt_ms": RTT_MS,
                }
            ],
        }
    )


def random_cut(program: Program, generator: random.Random) -> dict[str, str]:
    """A legal cut: a random set of blocks with all that they depend on stays on the camera."""
    blocks = program.blocks or ()
    last = generator.randrange(len(blocks))
    kept = {blocks[last].name}
    writer = {tensor: block for block in blocks for tensor in block.outputs}
    stack = [blocks[last]]
    while stack:
        for tensor in stack.pop().inputs:
            block = writer.get(tensor)
            if block is not None and block.name not in kept:
                kept.add(block.name)
                stack.append(block)
    return {block.name: "camera" if block.name in kept else "server" for block in blocks}


def study(name: str, cuts: int, requests: int, bandwidths: list[float]) -> list[Measured]:
    """All plans at all bandwidths."""
    generator = random.Random(0)
    message_cost = measured_message_cost()
    rows: list[Measured] = []
    program = partc.load(MODELS[name]())
    context = Context(topology_at(20.0), message_cost=message_cost)
    annotated = Pipeline.parse(ANNOTATE).run(program, topology_at(20.0), context=context)
    hosts = {block.name for block in annotated.blocks or ()}
    plans = {
        "device-only": dict.fromkeys(hosts, "camera"),
        "edge-only": dict.fromkeys(hosts, "server"),
        **{f"random-{n}": random_cut(annotated, generator) for n in range(cuts)},
    }
    for bandwidth in bandwidths:
        topology = topology_at(bandwidth)
        problem = placement_problem(annotated, topology)
        best = minimum_cut(problem)
        for plan, placement in {**plans, "optimal": dict(best.placement)}.items():
            predicted_s = evaluate(problem, placement).latency_s
            measured_s = _measure(annotated, topology, placement, requests)
            rows.append(Measured(name, bandwidth, plan, predicted_s, measured_s))
    return rows


def _measure(
    annotated: Program, topology: Topology, placement: dict[str, str], requests: int
) -> float:
    from partc.optimizer.solution import solution_of

    problem = placement_problem(annotated, topology)
    solution = solution_of(problem, placement, solver="given")
    plan = Plan(
        placement=op_placement(annotated, placement),
        transfers=transfers_of(solution.transfers, topology, "camera"),
        strategies=(),
        certificate=Certificate("latency", 0.0, 0.0, 0.0, "feasible", "given", 0.0),
        verdict=None,
        sweep=(),
        problem={},
    )
    context = Context(topology)
    program = Pipeline.parse("split,verify").run(
        replace(annotated, plan=plan), topology, context=context
    )
    assert program.verification is not None
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        emit_bundle(program, topology, "given", bundle)
        with LocalDeployment(bundle, fallback="lazy") as local:
            samples: list[float] = []
            for _ in range(requests + 2):
                time.sleep(PAUSE_S)
                answer = local.request(program.verification.feeds)
                assert not answer.failures, answer.failures
                samples.append(answer.latency_s)
    return statistics.median(samples[2:])


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
    parser.add_argument("models", nargs="*", default=["mobilenetv2"])
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--requests", type=int, default=9)
    parser.add_argument("--bandwidths", type=float, nargs="*", default=list(BANDWIDTHS_MBIT_S))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [
        row
        for name in given.models
        for row in study(name, given.cuts, given.requests, given.bandwidths)
    ]
    if given.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    print(describe_machine())
    header = f"{'model':14}{'Mbit/s':>8}{'plans':>7}{'median err':>12}{'95 % err':>10}{'regret':>9}"
    print(header)
    for name in given.models:
        mine = [row for row in rows if row.model == name]
        for bandwidth in given.bandwidths:
            _print_row(name, f"{bandwidth:g}", [r for r in mine if r.bandwidth_mbit_s == bandwidth])
        _print_row(name, "all", mine)


def _print_row(name: str, bandwidth: str, rows: list[Measured]) -> None:
    errors = [row.error for row in rows]
    print(
        f"{name:14}{bandwidth:>8}{len(rows):>7}{100 * statistics.median(errors):>11.1f}%"
        f"{100 * float(np.quantile(errors, 0.95)):>9.1f}%{100 * max(regrets(rows)):>8.1f}%"
    )


if __name__ == "__main__":
    main()
