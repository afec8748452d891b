"""Times the solver on the real InceptionV4: ``python -m benchmarks.solve_inception``.

Costs are measured. Two hosts, and a star of four, each with memory for 40 % of the weights.
"""

from __future__ import annotations

import time
from typing import Any

import partc
from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.measure.store import CostStore
from partc.optimizer import solve
from partc.passes.contract import Context
from partc.passes.partition.problem import placement_problem
from partc.pipeline import Pipeline

ANNOTATE = "infer-shapes,fold-constants,group-blocks,annotate-costs"
WEIGHTS_MIB = 163
TIME_LIMIT_S = 90.0


def star(servers: int, memory_mib: float | None) -> dict[str, Any]:
    """A device ten times slower than this machine, and servers at 200 Mbit/s around it."""
    names = [f"server{number}" for number in range(servers)]
    slowdowns = {"device": 10.0} | {name: 1.0 + 0.5 * n for n, name in enumerate(names)}
    memory = {} if memory_mib is None else {"memory_mib": memory_mib}
    return {
        "hosts": {name: {"slowdown": slow} | memory for name, slow in slowdowns.items()},
        "links": [
            {"between": ["device", name], "bandwidth_mbit_s": 200, "rtt_ms": 4} for name in names
        ],
    }


def main() -> None:
    """Print one line for each case."""
    print(describe_machine())
    cases = {"two hosts": star(1, None), "star of four, 40 %": star(3, 0.4 * WEIGHTS_MIB)}
    for name, data in cases.items():
        topology = partc.Topology.parse(data)
        context = Context(topology, store=CostStore())
        program = Pipeline.parse(ANNOTATE).run(
            partc.load(MODELS["inceptionv4"]()), topology, context=context
        )
        started = time.perf_counter()
        problem = placement_problem(program, topology)
        found = solve(problem, time_limit_s=TIME_LIMIT_S)
        print(
            f"{name:20} {len(problem.ops)} blocks, {time.perf_counter() - started:.2f} s, "
            f"{found.status}, objective {found.objective}, bound {found.bound}, "
            f"{len(set(found.placement.values()))} hosts used"
        )


if __name__ == "__main__":
    main()
