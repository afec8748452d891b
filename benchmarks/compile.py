"""How long each stage of a compilation takes: ``python -m benchmarks.compile``.

Each model is compiled twice in this one run: first with an empty cost store, so that it is
profiled, then with what the first left in the store. Wanted for MobileNetV2: under 20 s and
under 5 s, and a solve under 0.25 s with modelling, for InceptionV4 too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

import partc
from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.measure.store import CostStore
from partc.passes.contract import Context
from partc.passes.partition.problem import placement_problem
from partc.pipeline import Pipeline, Timing

TOPOLOGY = {
    "hosts": {"camera": {"slowdown": 4.0}, "server": {"address": "127.0.0.1:8500"}},
    "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20, "rtt_ms": 10}],
}
ANNOTATE = "infer-shapes,fold-constants,group-blocks,annotate-costs"
SOLVES = 7


@dataclass(frozen=True)
class Row:
    """One compilation: seconds of each stage, and of all of it."""

    model: str
    store: str
    stages_s: dict[str, float]
    total_s: float
    solve_s: float
    blocks: int


def compile_twice(name: str, folder: Path) -> list[Row]:
    """The same model with an empty and with a filled store."""
    path = folder / f"{name}.onnx"
    onnx.save(MODELS[name](), path)
    topology = partc.Topology.parse(TOPOLOGY)
    store = CostStore(folder / f"{name}.sqlite")
    rows: list[Row] = []
    for state in ("empty", "filled"):
        timing = Timing()
        started = time.perf_counter()
        bundle = partc.compile(
            path, topology, output=folder / name, force=True, store=store, observers=[timing]
        )
        total_s = time.perf_counter() - started
        stages_s = dict(timing.rows)
        stages_s["load, checks, emit"] = total_s - sum(stages_s.values())
        blocks = len(bundle.manifest.blocks)
        rows.append(Row(name, state, stages_s, total_s, _solve_s(path, topology, store), blocks))
    return rows


def _solve_s(path: Path, topology: partc.Topology, store: CostStore) -> float:
    """Median seconds to model and to solve the placement, from an annotated program."""
    program = Pipeline.parse(ANNOTATE).run(
        partc.load(path), topology, context=Context(topology, store=store)
    )
    samples: list[float] = []
    for _ in range(SOLVES):
        started = time.perf_counter()
        partc.optimizer.solve(placement_problem(program, topology))
        samples.append(time.perf_counter() - started)
    return sorted(samples)[SOLVES // 2]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile")
    parser.add_argument("models", nargs="*", default=["mobilenetv2", "inceptionv4"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in given.models for row in compile_twice(name, Path(folder))]
    if given.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    print(describe_machine())
    stages = list(rows[0].stages_s)
    print(f"{'seconds':20}" + "".join(f"{r.model[:10]:>12}" for r in rows))
    print(f"{'cost store':20}" + "".join(f"{r.store:>12}" for r in rows))
    for stage in stages:
        print(f"{stage:20}" + "".join(f"{r.stages_s[stage]:12.2f}" for r in rows))
    print(f"{'total':20}" + "".join(f"{r.total_s:12.2f}" for r in rows))
    print(f"{'solve with modelling':20}" + "".join(f"{r.solve_s:12.3f}" for r in rows))
    print(f"{'blocks':20}" + "".join(f"{r.blocks:12d}" for r in rows))


if __name__ == "__main__":
    main()
