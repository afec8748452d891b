"""Solves the public placement instances of PARTC_DATA and compares with their known values.

Usage: PARTC_DATA=FOLDER python -m benchmarks.placement_instances [--time-limit SECONDS] [NAME ...]

The instances are those of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN
Graph Operators" (NeurIPS 2020): throughput on accelerators and a CPU that share a bus. Their times
are in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from partc.optimizer import Problem, Solution, solve

MS = 1e-3
KNOWN = {  # instance: contiguous optimum, best known non-contiguous, in milliseconds
    "LayerGraphs_bert24_inference": (17.78990625, 17.7147),
    "LayerGraphs_resnet50_inference": (33.774666015625, 33.5378),
    "OperatorGraphs_bert_l-3_inference": (27.9185676799, 21.9084),
}


def read_instance(path: Path, *, contiguous: bool) -> Problem:
    """An instance as a placement problem: one bus, a tensor's size is its transfer time."""
    data = json.loads(path.read_text(encoding="utf-8"))
    accelerators = [f"acc{index}" for index in range(data["maxFPGAs"])]
    cpus = [f"cpu{index}" for index in range(data["maxCPUs"])]
    sent_ms: dict[Any, float] = {}
    read: dict[Any, list[str]] = {}
    for edge in data["edges"]:
        sent_ms[edge["sourceId"]] = edge["cost"]
        read.setdefault(edge["destId"], []).append(f"t{edge['sourceId']}")
    together: dict[Any, list[str]] = {}
    ops = []
    for node in data["nodes"]:
        name = f"n{node['id']}"
        cost_s = dict.fromkeys(cpus, node["cpuLatency"] * MS)
        if node["supportedOnFpga"]:
            cost_s |= dict.fromkeys(accelerators, node["fpgaLatency"] * MS)
        if node.get("colorClass") is not None:
            together.setdefault(node["colorClass"], []).append(name)
        ops.append(
            {
                "name": name,
                "inputs": list(dict.fromkeys(read.get(node["id"], []))),
                "outputs": [f"t{node['id']}"],
                "cost_s": cost_s,
                "weights": [f"w{node['id']}"],
            }
        )
    return Problem.from_dict(
        {
            "objective": "throughput",
            "hosts": [
                {
                    "name": name,
                    "memory_bytes": data["maxSizePerFPGA"],
                    "bus_seconds_per_byte": MS,
                }
                for name in accelerators
            ]
            + [{"name": name, "bus_seconds_per_byte": 0.0} for name in cpus],
            "bus": {"hosts": [*accelerators, *cpus], "serial": True},
            "ops": ops,
            "tensors": [
                {"name": f"t{node['id']}", "size_bytes": sent_ms.get(node["id"], 0.0)}
                for node in data["nodes"]
            ],
            "weights": [
                {"name": f"w{node['id']}", "size_bytes": node["size"]} for node in data["nodes"]
            ],
            "constraints": {
                "contiguous": contiguous,
                "together": [group for group in together.values() if len(group) > 1],
            },
        }
    )


def _line(name: str, kind: str, problem: Problem, answer: Solution, known_ms: float) -> str:
    def milliseconds(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds / MS:.9f}"

    ratio = "-" if answer.objective is None else f"{answer.objective / MS / known_ms:.9f}"
    return (
        f"{name:34} {kind:15} ops {len(problem.ops):4}  objective {milliseconds(answer.objective)}"
        f"  bound {milliseconds(answer.bound)}  known {known_ms:.9f}  ratio {ratio}"
        f"  {answer.status}  {answer.solver}  {answer.solve_s:.1f} s"
    )


def main() -> None:
    """Print one line per instance and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="instances (default: all)")
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds for each")
    parser.add_argument("--kind", choices=["contiguous", "free", "both"], default="both")
    options = parser.parse_args()
    folder = os.environ.get("PARTC_DATA")
    if not folder:
        parser.error("set PARTC_DATA to the folder that holds placement/")
    print(describe_machine(), flush=True)
    for name in options.names or KNOWN:
        for kind, known_ms in zip(("contiguous", "free"), KNOWN[name], strict=True):
            if options.kind not in (kind, "both"):
                continue
            path = Path(folder) / "placement" / f"{name}.json"
            problem = read_instance(path, contiguous=kind == "contiguous")
            answer = solve(problem, time_limit_s=options.time_limit)
            print(_line(name, kind, problem, answer, known_ms), flush=True)


if __name__ == "__main__":
    main()
