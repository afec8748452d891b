"""Seeded random placement problems, small enough to enumerate."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from partc.optimizer.evaluation import Evaluation, evaluate
from partc.optimizer.problem import Problem


def random_problem(
    seed: int,
    *,
    hosts: int = 2,
    ops: int = 8,
    shape: str = "chain",
    objective: str = "latency",
    unit_s: float = 1.0,
    outputs_anywhere: bool = True,
) -> dict[str, Any]:
    """A problem whose costs and transfers compete, so that optima often mix hosts.

    `shape` is "chain", "star", "ring", "mesh" (all linked to all), "bus" or "shared-bus"; `unit_s`
    is the size of a typical cost.
    """
    generator = random.Random(seed)
    names = [f"h{index}" for index in range(hosts)]
    tensors = [{"name": "x", "size_bytes": generator.randint(1, 20)}]
    available = ["x"]
    op_list = []
    for index in range(ops):
        inputs = generator.sample(
            available, min(len(available), generator.choice([0, 1, 1, 1, 2, 3]))
        )
        outputs = [f"t{index}"] + ([f"u{index}"] if generator.random() < 0.15 else [])
        cost_s = {name: generator.randint(1, 20) * unit_s for name in names}
        if hosts > 1 and generator.random() < 0.1:
            del cost_s[generator.choice(names)]
        weights = [f"w{generator.randrange(ops)}" for _ in range(generator.choice([0, 1, 1, 2]))]
        op_list.append(
            {
                "name": f"op{index}",
                "inputs": inputs,
                "outputs": outputs,
                "cost_s": cost_s,
                "weights": sorted(set(weights)),
            }
        )
        for name in outputs:
            size_bytes = generator.choice([0, 1, 2, 5, 10, 2.5])
            tensors.append({"name": name, "size_bytes": size_bytes})
            available.append(name)
    _vary_messages(random.Random(f"messages {seed}"), tensors, names, unit_s)
    wanted = {available[-1]} | {name for name in available[1:] if generator.random() < 0.1}
    data: dict[str, Any] = {
        "objective": objective,
        "hosts": [
            {
                "name": name,
                "power_active_w": generator.choice([1.0, 3.0]),
                "power_tx_w": generator.choice([0.0, 0.5]),
                "power_rx_w": generator.choice([0.0, 0.2]),
                "power_idle_w": generator.choice([0.0, 0.1]),
                "codec_slowdown": generator.choice([1.0, 1.0, 3.0]),
            }
            for name in names
        ],
        "ops": op_list,
        "tensors": tensors,
        "weights": [
            {"name": f"w{index}", "size_bytes": generator.randint(1, 9)} for index in range(ops)
        ],
        "inputs": {"x": names[0]},
        "outputs": {
            name: generator.choice(names) if outputs_anywhere else names[0]
            for name in sorted(wanted)
        },
        "constraints": {},
    }
    if shape in ("bus", "shared-bus"):
        data["bus"] = {"hosts": names, "serial": generator.random() < 0.5}
        data["bus"]["shared"] = shape == "shared-bus"
        for host in data["hosts"]:
            host["bus_seconds_per_byte"] = generator.choice([0.0, 0.3, 1.0]) * unit_s
            host["bus_latency_s"] = generator.choice([0.0, 0.5]) * unit_s
    else:
        data["links"] = [
            {
                "between": [names[one], names[other]],
                "seconds_per_byte": [
                    generator.choice([0.1, 0.5, 1.0, 2.0]) * unit_s,
                    generator.choice([0.1, 0.5, 1.0]) * unit_s,
                ],
                "latency_s": [generator.choice([0.0, 1.0]) * unit_s, 0.5 * unit_s],
            }
            for one, other in _linked(shape, hosts)
        ]
    return data


def _vary_messages(
    generator: random.Random, tensors: list[dict[str, Any]], hosts: list[str], unit_s: float
) -> None:
    """Some tensors share a message, and some cost more on arrival at a host."""
    for tensor in tensors:
        if generator.random() < 0.15:
            tensor["shares_message"] = True
        if generator.random() < 0.15:
            tensor["extra_s"] = {generator.choice(hosts): generator.choice([0.5, 3.0]) * unit_s}


def _linked(shape: str, hosts: int) -> list[tuple[int, int]]:
    if shape == "mesh":
        return list(itertools.combinations(range(hosts), 2))
    pairs = [(0 if shape == "star" else index - 1, index) for index in range(1, hosts)]
    return [*pairs, (hosts - 1, 0)] if shape == "ring" and hosts > 2 else pairs


def placements(problem: Problem) -> Iterator[dict[str, str]]:
    """Every placement on hosts that can run the ops."""
    choices = [list(op.cost_s) for op in problem.ops]
    for hosts in itertools.product(*choices):
        yield {op.name: host for op, host in zip(problem.ops, hosts, strict=True)}


def codec_choices(
    problem: Problem, placement: Mapping[str, str]
) -> Iterator[dict[tuple[str, str, str], str]]:
    """Every choice of codecs for the transfers of a placement."""
    transfers = evaluate(problem, placement).transfers
    if problem.bus is not None:
        keys = list(dict.fromkeys(transfer.tensor for transfer in transfers))
    hops = [(t.tensor, t.source, t.destination) for t in transfers]
    names = ["none", *(codec.name for codec in problem.codecs)]
    if problem.bus is None:
        for chosen in itertools.product(names, repeat=len(hops)):
            yield dict(zip(hops, chosen, strict=True))
        return
    for chosen in itertools.product(names, repeat=len(keys)):
        of_tensor = dict(zip(keys, chosen, strict=True))
        yield {hop: of_tensor[hop[0]] for hop in hops}


def brute_force(problem: Problem) -> tuple[float, dict[str, str] | None, Evaluation | None]:
    """The best plan by trying all; (infinity, None, None) when there is none."""
    best: tuple[float, dict[str, str] | None, Evaluation | None] = (float("inf"), None, None)
    for placement in placements(problem):
        choices = codec_choices(problem, placement) if problem.codecs else iter([{}])
        for codecs in choices:
            evaluation = evaluate(problem, placement, codecs)
            if not evaluation.violations and evaluation.objective < best[0] - 1e-12:
                best = (evaluation.objective, placement, evaluation)
    return best
