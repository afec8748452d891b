"""Chains of convolution-like ops with real tile geometry: what a planner would build."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MBIT = 8e-6  # seconds per byte at one megabit per second


@dataclass(frozen=True)
class Layer:
    """Kernel, stride and padding over rows, and what a row of its output costs and weighs."""

    kernel: int
    stride: int
    padding: int
    seconds_per_row: float
    row_bytes: int
    weight_bytes: int


@dataclass(frozen=True)
class Chain:
    """An input of some rows, and layers on it."""

    rows: int
    row_bytes: int
    layers: tuple[Layer, ...]

    def heights(self) -> list[int]:
        """Rows of the input and of each layer's output."""
        heights = [self.rows]
        for layer in self.layers:
            heights.append((heights[-1] + 2 * layer.padding - layer.kernel) // layer.stride + 1)
        return heights


def random_chain(generator: random.Random, layers: int, *, rows: int = 48) -> Chain:
    """Layers that keep or halve the rows."""
    made = []
    height = rows
    for _ in range(layers):
        kernel = generator.choice([1, 3, 3, 5])
        stride = generator.choice([1, 1, 1, 2]) if height >= 24 else 1
        padding = kernel // 2
        height = (height + 2 * padding - kernel) // stride + 1
        made.append(
            Layer(
                kernel,
                stride,
                padding,
                generator.uniform(2e-5, 4e-4),
                generator.randint(500, 8000),
                generator.randint(1, 60) * 1000,
            )
        )
    return Chain(rows, generator.randint(500, 4000), tuple(made))


def split_rows(rows: int, shares: Sequence[float]) -> list[tuple[int, int]]:
    """Bounds of each tile; every one has at least one row."""
    bounds = [0]
    for number, share in enumerate(itertools.accumulate(shares)):
        left = len(shares) - number - 1
        bounds.append(min(max(round(rows * share), bounds[-1] + 1), rows - left))
    return list(itertools.pairwise(bounds))


def needed_rows(
    chain: Chain, first: int, last: int, wanted: tuple[int, int]
) -> list[tuple[int, int]]:
    """Rows of tensors first..last that a tile needs for `wanted` rows of tensor last."""
    heights = chain.heights()
    needed = [wanted]
    for number in range(last - 1, first - 1, -1):
        layer = chain.layers[number]
        low, high = needed[0]
        below = max(0, low * layer.stride - layer.padding)
        above = (high - 1) * layer.stride - layer.padding + layer.kernel
        needed.insert(0, (min(below, heights[number]), min(above, heights[number])))
    return needed


def horizontal_data(
    chain: Chain,
    slowdown: dict[str, float],
    tilings: Sequence[dict[str, Any]],
    *,
    longest: int | None = None,
    overhead_s: float = 1e-4,
) -> dict[str, Any]:
    """Ops, tensors, weights and arcs of a horizontal problem; hosts without links.

    `slowdown` is each host's factor on the seconds of a row; `longest` the most layers in an arc.
    The input arises on the first host, and the answer is wanted there.
    """
    heights = chain.heights()
    row_bytes = [chain.row_bytes, *(layer.row_bytes for layer in chain.layers)]
    names = [f"t{number}" for number in range(len(heights))]
    device = next(iter(slowdown))
    data: dict[str, Any] = {
        "hosts": [{"name": name} for name in slowdown],
        "tensors": [
            {"name": name, "size_bytes": height * size}
            for name, height, size in zip(names, heights, row_bytes, strict=True)
        ],
        "weights": [
            {"name": f"w{number}", "size_bytes": layer.weight_bytes}
            for number, layer in enumerate(chain.layers)
        ],
        "ops": [
            {
                "name": f"op{number}",
                "inputs": [names[number]],
                "outputs": [names[number + 1]],
                "weights": [f"w{number}"],
                "cost_s": {
                    host: heights[number + 1] * layer.seconds_per_row * factor
                    for host, factor in slowdown.items()
                },
            }
            for number, layer in enumerate(chain.layers)
        ],
        "inputs": {"t0": device},
        "outputs": {names[-1]: device},
        "tilings": list(tilings),
        "arcs": [],
        "gathers": [],
    }
    for tiling in tilings:
        hosts, shares = tiling["hosts"], tiling["shares"]
        tiles = {
            number: split_rows(height, shares)
            for number, height in enumerate(heights)
            if height >= len(hosts)
        }
        for last, parts in tiles.items():
            if last > 0:
                data["gathers"].append(
                    {
                        "tensor": names[last],
                        "tiling": tiling["name"],
                        "tile_bytes": [(b - a) * row_bytes[last] for a, b in parts],
                    }
                )
            for first in range(max(0, last - (longest or last)), last):
                needs = [needed_rows(chain, first, last, part) for part in parts]
                arc: dict[str, Any] = {
                    "entry": names[first],
                    "exit": names[last],
                    "tiling": tiling["name"],
                    "tile_s": [
                        overhead_s
                        + sum(
                            (b - a) * layer.seconds_per_row * slowdown[host]
                            for (a, b), layer in zip(
                                need[1:], chain.layers[first:last], strict=True
                            )
                        )
                        for host, need in zip(hosts, needs, strict=True)
                    ],
                    "entry_bytes": [(need[0][1] - need[0][0]) * row_bytes[first] for need in needs],
                }
                if first in tiles and first > 0:
                    arc["halo_bytes"] = {
                        tiling["name"]: [
                            [
                                0
                                if receiver == sender
                                else max(0, min(need[0][1], b) - max(need[0][0], a))
                                * row_bytes[first]
                                for receiver, need in enumerate(needs)
                            ]
                            for sender, (a, b) in enumerate(tiles[first])
                        ]
                    }
                data["arcs"].append(arc)
    return data


def mesh(
    hosts: Sequence[str], device_mbit: float, server_mbit: float, rtt_s: float = 0.0
) -> list[dict[str, Any]]:
    """Every pair is linked; pairs with the first host as one speed, the others as the other."""
    links = []
    for a, b in itertools.combinations(hosts, 2):
        per_byte = MBIT / (device_mbit if a == hosts[0] else server_mbit)
        links.append(
            {
                "between": [a, b],
                "seconds_per_byte": [per_byte, per_byte],
                "latency_s": [rtt_s / 2, rtt_s / 2],
            }
        )
    return links


def random_horizontal(
    seed: int,
    *,
    servers: int = 2,
    layers: int = 5,
    vectors: int = 1,
    longest: int | None = None,
    server_mbit: float | None = None,
) -> dict[str, Any]:
    """A device and some servers, heterogeneous, with links from 1 Mbit/s to 10 Gbit/s."""
    generator = random.Random(seed)
    chain = random_chain(generator, layers)
    names = ["device", *(f"s{number}" for number in range(servers))]
    slowdown = {"device": generator.uniform(3.0, 10.0)}
    slowdown |= {name: generator.choice([1.0, 1.0, 1.5, 2.0]) for name in names[1:]}
    tilings = []
    for number in range(vectors):
        speeds = [
            1 / slowdown[name] * (1.0 if number == 0 else generator.uniform(0.7, 1.4))
            for name in names[1:]
        ]
        shares = [speed / sum(speeds) for speed in speeds]
        tilings.append({"name": f"v{number}", "hosts": names[1:], "shares": shares})
    data = horizontal_data(chain, slowdown, tilings, longest=longest)
    speeds_mbit = [1, 10, 100, 1000, 10_000]
    between = server_mbit if server_mbit is not None else generator.choice(speeds_mbit)
    data["routes"] = [list(pair) for pair in itertools.permutations(names, 2)]
    data["links"] = mesh(
        names, generator.choice(speeds_mbit[1:]), between, generator.choice([0.0, 2e-4, 1e-3])
    )
    return data
