"""Times horizontal problems: building arcs and model, and solving, with and without limits.

Usage: python -m benchmarks.solve_horizontal [--cuts N] [--servers N] [--vectors N] [--limit S]

A chain of convolutions on 224 rows, every range of which may be tiled over all servers with each of
several vectors of shares; a device eight times slower than they are, 1 Gbit/s between the servers.
Prints one line per case: arcs, columns, seconds, objective, bound and gap.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

from benchmarks.machine import describe_machine
from partc.optimizer.horizontal import HorizontalProblem, candidate_shares, solve_horizontal
from partc.optimizer.horizontal.model import HorizontalModel
from tests.optimizer.horizontal.chains import horizontal_data, mesh, random_chain

ROWS = 224
MEMORY_SHARES = (None, 0.8, 0.6, 0.4)


def instance(cuts: int, servers: int, vectors: int, seed: int = 3) -> dict[str, Any]:
    """A problem of so many cut tensors, servers and vectors of shares."""
    generator = random.Random(seed)
    names = ["device", *(f"s{number}" for number in range(servers))]
    slowdown = {"device": 8.0} | {name: 1 + 0.3 * n for n, name in enumerate(names[1:])}
    shares = list(candidate_shares([1 / slowdown[name] for name in names[1:]], ROWS))
    while len(shares) < vectors:
        speeds = [generator.uniform(0.7, 1.4) / slowdown[name] for name in names[1:]]
        shares.append(tuple(speed / sum(speeds) for speed in speeds))
    tilings = [
        {"name": f"v{number}", "hosts": names[1:], "shares": list(each)}
        for number, each in enumerate(shares[:vectors])
    ]
    data = horizontal_data(random_chain(generator, cuts, rows=ROWS), slowdown, tilings)
    return data | {"links": mesh(names, 100, 1000, 2e-4), "shared_ports": ["device"]}


def with_memory(data: dict[str, Any], share: float) -> dict[str, Any]:
    """Servers that hold only a share of all weights."""
    weights_bytes = sum(weight["size_bytes"] for weight in data["weights"])
    hosts = [
        host if host["name"] == "device" else host | {"memory_bytes": share * weights_bytes}
        for host in data["hosts"]
    ]
    return data | {"hosts": hosts}


def report(label: str, data: dict[str, Any], limit_s: float) -> None:
    """Build and solve one problem, and print its line."""
    began = time.perf_counter()
    problem = HorizontalProblem.from_dict(data)
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    model = HorizontalModel(problem, 1e4)
    built_s = time.perf_counter() - began
    answer = solve_horizontal(problem, time_limit_s=limit_s)
    objective = "-" if answer.objective is None else f"{answer.objective:.6f}"
    gap = "-" if answer.gap is None else f"{answer.gap:.4f}"
    print(
        f"{label:16} {len(problem.arcs):6} arcs {len(model.arrays.cost):7} columns  "
        f"read {read_s:6.2f} s  model {built_s:6.2f} s  solve {answer.solve_s:7.2f} s  "
        f"{answer.status:9} objective {objective} gap {gap} tiles {len(answer.tiles)} "
        f"{'relaxation' if answer.integral else 'integer program'}"
    )


def main() -> None:
    """Print all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--vectors", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0)
    options = parser.parse_args()
    print(describe_machine())
    data = instance(options.cuts, options.servers, options.vectors)
    report("first in process", data, options.limit)
    for share in MEMORY_SHARES:
        label = "no limits" if share is None else f"memory {share:.0%}"
        report(label, data if share is None else with_memory(data, share), options.limit)


if __name__ == "__main__":
    main()
