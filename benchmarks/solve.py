"""Times the optimizer on the graphs of examples/models, and on two larger synthetic ones.

Usage: python -m benchmarks.solve [--quick] [NAME ...]

Prints one line per case: ops, variables, seconds of building and of the whole solve, objective,
bound, gap; and where the problem is a minimum cut, how many times longer networkx takes for the
same cut and CBC for the same model, in the same run. Costs follow from a formula of work and bytes
(benchmarks/real_graphs.py). `python -m benchmarks.solve_inception` measures them instead.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import networkx as nx

from benchmarks.instances import (
    CODECS,
    Network,
    encoder_like,
    long_chain,
    placed,
)
from benchmarks.machine import describe_machine
from benchmarks.real_graphs import real_network
from partc.optimizer import Conditions, Problem, minimum_cut, portfolio, solve
from partc.optimizer.cbc import run_cbc
from partc.optimizer.instance import build_instance
from partc.optimizer.models import build_model

TWO_HOSTS = [6.0, 1.0]


def two_hosts(network: Network) -> dict[str, Any]:
    """A device and a six times faster server at 100 Mbit/s."""
    return placed(network, slowdowns=TWO_HOSTS)


def with_budgets(network: Network, mbit_s: float = 20.0) -> dict[str, Any]:
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


def star_of_four(network: Network) -> dict[str, Any]:
    """A device and three servers around it, each with memory for 40 % of the weights."""
    data = placed(network, slowdowns=[6.0, 1.0, 1.2, 1.5], star=True)
    weights_bytes = sum(weight["size_bytes"] for weight in data["weights"])
    for host in data["hosts"]:
        host["memory_bytes"] = 0.4 * weights_bytes
    return data


CASES: dict[str, tuple[Callable[[], dict[str, Any]], float, str]] = {
    "mobilenetv2-two-hosts": (lambda: two_hosts(real_network("mobilenetv2")), 60, "-"),
    "resnet50-two-hosts": (lambda: two_hosts(real_network("resnet50")), 60, "-"),
    "inceptionv4-two-hosts": (lambda: two_hosts(real_network("inceptionv4")), 60, "0.25 s"),
    "encoder-two-hosts": (lambda: two_hosts(real_network("encoder")), 60, "-"),
    "10000-ops-two-hosts": (lambda: two_hosts(long_chain()), 60, "4 s"),
    "mobilenetv2-budgets": (lambda: with_budgets(real_network("mobilenetv2")), 60, "5 s"),
    "resnet50-budgets": (lambda: with_budgets(real_network("resnet50")), 60, "5 s"),
    "inceptionv4-budgets": (lambda: with_budgets(real_network("inceptionv4")), 60, "5 s"),
    "inceptionv4-star-of-four": (lambda: star_of_four(real_network("inceptionv4")), 120, "60 s"),
    "encoder-budgets": (
        lambda: with_budgets(real_network("encoder"), 100.0),
        60,
        "gap 5 % in 60 s",
    ),
    "1800-ops-budgets": (lambda: with_budgets(encoder_like(), 100.0), 60, "gap 5 % in 60 s"),
}
SLOW = {"inceptionv4-star-of-four", "encoder-budgets", "1800-ops-budgets"}


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
        f"{name:24} ops {len(problem.ops):6}  variables {len(model.linear.variables):6}"
        f"  build {build_s:7.3f} s  solve {answer.solve_s:7.3f} s (aim: {target})"
        f"  objective {answer.objective:.9g}  bound {answer.bound:.9g}  gap {answer.gap:.4f}"
        f"  {answer.status}  {answer.solver}"
    )
    if compare:
        began = time.perf_counter()
        other = run_cbc(model.linear, time_limit_s=limit_s, gap=0.0)
        cbc_s = time.perf_counter() - began
        line += f"  CBC / solve {cbc_s / answer.solve_s:.1f} ({other.status})"
    if compare and "two-hosts" in name:
        began = time.perf_counter()
        minimum_cut(problem)
        line += f"  minimum cut {time.perf_counter() - began:.3f} s"
        if len(problem.ops) < 5000:
            line += f", networkx / solve {networkx_cut_s(problem) / answer.solve_s:.1f}"
    print(line, flush=True)


def run_portfolio() -> None:
    """Time the portfolio of three CNNs over wide ranges."""
    conditions = Conditions((0.1, 10_000.0), None, (1.0, 5.0), (1.0, 10.0))
    for name in ("mobilenetv2", "resnet50", "inceptionv4"):
        problem = Problem.from_dict(two_hosts(real_network(name)))
        began = time.perf_counter()
        found = portfolio(problem, conditions)
        seconds = time.perf_counter() - began
        print(
            f"portfolio-{name:14} ops {len(problem.ops):6}  {seconds:.3f} s (aim: 1 s)"
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
    left_out = SLOW if options.quick else set()
    print(describe_machine(), flush=True)
    # The first solve in a process pays for loading the solvers; that is not the optimizer's time.
    first = Problem.from_dict(two_hosts(real_network("mobilenetv2")))
    minimum_cut(first)
    solve(first)
    for name in options.names or [*CASES, "portfolio"]:
        if name == "portfolio":
            run_portfolio()
        elif name not in left_out:
            run(name, compare=name not in SLOW)


if __name__ == "__main__":
    main()
