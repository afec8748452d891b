"""Times the optimizer on synthetic networks shaped like real ones.

Usage: python -m benchmarks.solve [--quick] [NAME ...]

Prints one line per case: ops, variables, seconds of building and of the whole solve, objective,
bound, gap; and where the problem is a minimum cut, how many times longer networkx takes for the
same cut and CBC for the same model, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import networkx as nx

from benchmarks.instances import (
    CODECS,
    encoder_like,
    inception_like,
    long_chain,
    mobilenet_like,
    placed,
)
from benchmarks.machine import describe_machine
from partc.optimizer import Conditions, Problem, minimum_cut, portfolio, solve
from partc.optimizer.cbc import run_cbc
from partc.optimizer.instance import build_instance
from partc.optimizer.models import build_model

TWO_HOSTS = [6.0, 1.0]


def two_hosts(network: Any) -> dict[str, Any]:
    """A device and a six times faster server at 100 Mbit/s."""
    return placed(network, slowdowns=TWO_HOSTS)


def with_budgets(network: Any, mbit_s: float = 20.0) -> dict[str, Any]:
    """Server memory for 40 % of the weights, codecs with a loss budget, energy of the device.

    The energy budget is 2 % above what the fastest plan without it uses on the device.
    """
    data = placed(network, slowdowns=TWO_HOSTS, mbit_s=mbit_s)
    weights_bytes = sum(weight["size_bytes"] for weight in data["weights"])
    data["hosts"][1]["memory_bytes"] = 0.4 * weights_bytes
    data["codecs"] = CODECS
    data["constraints"] = {"loss_budget": 0.01}
    free = solve(Problem.from_dict(data), time_limit_s=30)
    assert free.evaluation is not None
    data["constraints"]["energy_j"] = {"device": 1.02 * free.evaluation.energy_j["device"]}
    return data


def star_of_four(network: Any) -> dict[str, Any]:
    """A device and three servers around it, each with memory for 40 % of the weights."""
    data = placed(network, slowdowns=[6.0, 1.0, 1.2, 1.5], star=True)
    weights_bytes = sum(weight["size_bytes"] for weight in data["weights"])
    for host in data["hosts"]:
        host["memory_bytes"] = 0.4 * weights_bytes
    return data


CASES: dict[str, tuple[Callable[[], dict[str, Any]], float, str]] = {
    "cnn-two-hosts": (lambda: two_hosts(inception_like()), 60, "0.25 s"),
    "mobilenet-two-hosts": (lambda: two_hosts(mobilenet_like()), 60, "-"),
    "10000-ops-two-hosts": (lambda: two_hosts(long_chain()), 60, "4 s"),
    "cnn-budgets": (lambda: with_budgets(inception_like()), 60, "5 s"),
    "mobilenet-budgets": (lambda: with_budgets(mobilenet_like()), 60, "5 s"),
    "cnn-star-of-four": (lambda: star_of_four(inception_like()), 120, "60 s"),
    "encoder-budgets": (lambda: with_budgets(encoder_like(), 100.0), 60, "gap 5 % in 60 s"),
}


def networkx_cut_s(problem: Problem) -> float:
    """Seconds that networkx needs for the same cut, building its graph included."""
    began = time.perf_counter()
    graph = nx.DiGraph()
    device, server = problem.host_names
    link = problem.links[0]
    for op in problem.ops:
        graph.add_edge(device, op.name, capacity=op.cost_s[server])
        graph.add_edge(op.name, server, capacity=op.cost_s[device])
    for tensor in problem.tensors:
        maker = problem.producer_of.get(tensor.name)
        source = maker.name if maker else problem.inputs[tensor.name]
        readers = [op.name for op in problem.consumers_of[tensor.name]]
        if tensor.name in problem.outputs:
            readers.append(problem.outputs[tensor.name])
        prices = [tensor.size_bytes * link.seconds_per_byte[k] + link.latency_s[k] for k in (0, 1)]
        graph.add_edge(source, ("out", tensor.name), capacity=prices[0])
        graph.add_edge(("back", tensor.name), source, capacity=prices[1])
        for reader in readers:
            graph.add_edge(("out", tensor.name), reader)
            graph.add_edge(reader, ("back", tensor.name))
    nx.minimum_cut(graph, device, server)
    return time.perf_counter() - began


def run(name: str, *, compare: bool) -> None:
    """Solve one case and print its line."""
    make, limit_s, target = CASES[name]
    problem = Problem.from_dict(make())
    began = time.perf_counter()
    model = build_model(build_instance(problem), 1.0)
    build_s = time.perf_counter() - began
    answer = solve(problem, time_limit_s=limit_s)
    assert answer.objective is not None and answer.gap is not None
    line = (
        f"{name:22} ops {len(problem.ops):6}  variables {len(model.linear.variables):6}"
        f"  build {build_s:7.3f} s  solve {answer.solve_s:7.3f} s (aim: {target})"
        f"  objective {answer.objective:.9g}  bound {answer.bound:.9g}  gap {answer.gap:.4f}"
        f"  {answer.status}  {answer.solver}"
    )
    if compare and "two-hosts" in name:
        began = time.perf_counter()
        minimum_cut(problem)
        cut_s = time.perf_counter() - began
        began = time.perf_counter()
        run_cbc(model.linear, time_limit_s=120, gap=0.0)
        cbc_s = time.perf_counter() - began
        line += f"  minimum cut {cut_s:.3f} s, CBC / solve {cbc_s / answer.solve_s:.1f}"
        if len(problem.ops) < 5000:
            line += f", networkx / solve {networkx_cut_s(problem) / answer.solve_s:.1f}"
    print(line, flush=True)


def run_portfolio() -> None:
    """Time the portfolio of two CNNs over wide ranges."""
    conditions = Conditions((0.1, 10_000.0), None, (1.0, 5.0), (1.0, 10.0))
    for name, network in (("mobilenet", mobilenet_like()), ("cnn", inception_like())):
        problem = Problem.from_dict(two_hosts(network))
        began = time.perf_counter()
        found = portfolio(problem, conditions)
        seconds = time.perf_counter() - began
        print(
            f"portfolio-{name:12} ops {len(problem.ops):6}  {seconds:.3f} s (aim: 1 s)"
            f"  plans {len(found.plans)} of {found.known_plans}  calls {found.solver_calls}"
            f"  certified {found.certified_fraction:.4f} within {found.tolerance:.0%}",
            flush=True,
        )


def main() -> None:
    """Run the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CASES, "portfolio"])
    parser.add_argument("--quick", action="store_true", help="leave out what takes over 10 s")
    options = parser.parse_args()
    slow = {"encoder-budgets", "cnn-star-of-four"} if options.quick else set()
    print(describe_machine(), flush=True)
    # The first solve in a process pays for loading the solvers; that is not the optimizer's time.
    minimum_cut(Problem.from_dict(two_hosts(mobilenet_like())))
    solve(Problem.from_dict(two_hosts(mobilenet_like())))
    for name in options.names or [*CASES, "portfolio"]:
        if name == "portfolio":
            run_portfolio()
        elif name not in slow:
            run(name, compare=True)


if __name__ == "__main__":
    main()
