"""Synthetic placement problems shaped like real networks, for the solver's benchmarks."""

from __future__ import annotations

import random
from typing import Any

MIB = 2**20


class GraphWriter:
    """Collects ops, tensors and weights; a tensor carries its size, an op its work."""

    def __init__(self, seed: int) -> None:
        self.generator = random.Random(seed)
        self.ops: list[dict[str, Any]] = []
        self.tensors: dict[str, float] = {}
        self.weights: list[dict[str, Any]] = []

    def tensor(self, name: str, size_bytes: float) -> str:
        """A tensor without a producer."""
        self.tensors[name] = size_bytes
        return name

    def op(
        self,
        inputs: list[str],
        size_bytes: float,
        work: float,
        weight_bytes: float = 0.0,
    ) -> str:
        """An op with one output; `work` is its seconds on the fastest host."""
        name = f"op{len(self.ops)}"
        output = self.tensor(f"t{len(self.ops)}", size_bytes)
        weights = []
        if weight_bytes:
            weights = [f"w{len(self.ops)}"]
            self.weights.append({"name": weights[0], "size_bytes": weight_bytes})
        noise = self.generator.uniform(0.8, 1.25)
        self.ops.append(
            {
                "name": name,
                "inputs": inputs,
                "outputs": [output],
                "weights": weights,
                "work": work * noise,
            }
        )
        return output


def inception_like(seed: int = 1) -> tuple[GraphWriter, str, str]:
    """About 490 ops: a stem, then blocks of four branches that are concatenated.

    Shapes and costs follow InceptionV4 in scale: 12.3 GMAC, 163 MiB of weights, 299 x 299 input.
    """
    graph = GraphWriter(seed)
    x = graph.tensor("x", 3 * 299 * 299 * 4)

    def convolution(source: str, side: int, channels: int, taps: int) -> str:
        size_bytes = side * side * channels * 4
        work = side * side * channels * taps * 8e-11
        y = graph.op([source], size_bytes, work, channels * taps * 4.0)
        return graph.op([y], size_bytes, side * side * channels * 2e-10)

    y = convolution(x, 149, 32, 27)
    y = convolution(y, 147, 32, 288)
    y = convolution(y, 147, 64, 288)
    for side, channels in ((73, 96), (71, 96), (35, 192)):
        a = convolution(y, side, channels, 576)
        b = graph.op([y], side * side * channels * 4, side * side * channels * 1e-9)
        y = graph.op([a, b], side * side * channels * 8, side * side * channels * 2e-10)
    for side, width, blocks in ((35, 96, 5), (17, 256, 11), (8, 384, 5)):
        for _ in range(blocks):
            branches = [convolution(y, side, width, 4 * width)]
            for length in (2, 3):
                b = y
                for step in range(length + (side < 35)):
                    b = convolution(b, side, width, (4 if step == 0 else 7) * width)
                branches.append(b)
            pooled = graph.op([y], side * side * 4 * width * 4, side * side * width * 4e-9)
            branches.append(convolution(pooled, side, width, 4 * width))
            y = graph.op(branches, side * side * 4 * width * 4, side * side * width * 8e-10)
        y = graph.op([y], (side // 2) ** 2 * width * 16, side * side * width * 4e-9)
    pooled = graph.op([y], 1536 * 4, 1e-5)
    logits = graph.op([pooled], 1000 * 4, 2e-4, 1536 * 1000 * 4.0)
    return graph, "x", graph.op([logits], 1000 * 4, 1e-6)


def mobilenet_like(seed: int = 1) -> tuple[GraphWriter, str, str]:
    """About 100 ops whose tensors shrink and grow, so that many cuts are worth something."""
    graph = GraphWriter(seed)
    y = graph.tensor("x", 3 * 224 * 224 * 4)
    plan = [(112, 16, 1), (56, 24, 2), (28, 32, 3), (14, 64, 4), (14, 96, 3), (7, 160, 3)]
    y = graph.op([y], 112 * 112 * 32 * 4, 4e-4, 3456)
    previous = 32
    for side, channels, repeats in plan:
        pixels = side * side
        for repeat in range(repeats):
            wide = previous * 6
            mixing = wide * previous
            a = graph.op([y], pixels * wide * 4, pixels * mixing * 5e-11, mixing * 4.0)
            a = graph.op([a], pixels * wide * 4, pixels * wide * 9 * 8e-11, wide * 36.0)
            mixing = wide * channels
            a = graph.op([a], pixels * channels * 4, pixels * mixing * 5e-11, mixing * 4.0)
            y = graph.op([a, y], pixels * channels * 4, pixels * channels * 3e-10) if repeat else a
            previous = channels
    y = graph.op([y], 7 * 7 * 1280 * 4, 1e-3, 160 * 1280 * 4.0)
    y = graph.op([y], 1280 * 4, 3e-5)
    return graph, "x", graph.op([y], 1001 * 4, 2e-4, 1280 * 1001 * 4.0)


def encoder_like(layers: int = 24, seed: int = 1, parts: int = 75) -> tuple[GraphWriter, str, str]:
    """A transformer encoder whose attention mask is read in every layer; 75 ops a layer."""
    graph = GraphWriter(seed)
    tokens, width, heads = 128, 1024, 16
    ids = graph.tensor("x", tokens * 8)
    row = tokens * width * 4.0
    y = graph.op([ids], row, 1e-4, 30522 * width * 4.0)
    mask = graph.op([ids], tokens * tokens * 4.0, 1e-5)
    for _ in range(layers):
        before = len(graph.ops)
        streams = []
        for _ in range(3):
            s = graph.op([y], row, 1.2e-3, width * width * 4.0)
            s = graph.op([s], row, 2e-5, width * 4.0)
            streams.append(graph.op([s], row, 2e-5))
        scores = graph.op(streams[:2], heads * tokens * tokens * 4.0, 4e-4)
        scores = graph.op([scores, mask], heads * tokens * tokens * 4.0, 1e-4)
        for _ in range(4):
            scores = graph.op([scores], heads * tokens * tokens * 4.0, 1e-4)
        mixed = graph.op([scores, streams[2]], row, 4e-4)
        mixed = graph.op([mixed], row, 1.2e-3, width * width * 4.0)
        y = graph.op([mixed, y], row, 2e-5)
        wide = graph.op([y], 4 * row, 4.8e-3, 4 * width * width * 4.0)
        for _ in range(8):
            wide = graph.op([wide], 4 * row, 1e-4)
        narrow = graph.op([wide], row, 4.8e-3, 4 * width * width * 4.0)
        y = graph.op([narrow, y], row, 2e-5)
        while len(graph.ops) < before + parts:
            y = graph.op([y], row, 1e-5, width * 4.0 if len(graph.ops) % 3 == 0 else 0.0)
    return graph, "x", graph.op([y], 4096.0, 1e-4)


def long_chain(ops: int = 10_000, seed: int = 1) -> tuple[GraphWriter, str, str]:
    """A deep graph with skips and short branches, for scaling."""
    graph = GraphWriter(seed)
    y = graph.tensor("x", MIB)
    recent = [y]
    while len(graph.ops) < ops:
        draw = graph.generator.random()
        inputs = [recent[-1]]
        if draw < 0.2 and len(recent) > 3:
            inputs.append(recent[-graph.generator.randint(2, 4)])
        size_bytes = graph.generator.choice([0.02, 0.1, 0.3, 1.0]) * MIB
        recent.append(graph.op(inputs, size_bytes, graph.generator.uniform(1e-5, 1e-3), 4096.0))
        recent = recent[-6:]
    return graph, "x", recent[-1]


def placed(
    network: tuple[GraphWriter, str, str],
    *,
    slowdowns: list[float],
    mbit_s: float = 100.0,
    rtt_s: float = 0.002,
    star: bool = False,
) -> dict[str, Any]:
    """The problem of a network on hosts that are so many times slower than the fastest."""
    graph, source, answer = network
    names = ["device", *(f"server{index}" for index in range(1, len(slowdowns)))]
    per_op = random.Random(7)
    ops = []
    for op in graph.ops:
        data = {key: value for key, value in op.items() if key != "work"}
        data["cost_s"] = {
            name: op["work"] * slowdown * per_op.uniform(0.9, 1.1)
            for name, slowdown in zip(names, slowdowns, strict=True)
        }
        ops.append(data)
    return {
        "objective": "latency",
        "hosts": [{"name": name, "power_active_w": 5.0, "power_tx_w": 1.2} for name in names],
        "links": [
            {
                "between": [names[0 if star else index - 1], names[index]],
                "seconds_per_byte": [8e-6 / mbit_s, 8e-6 / mbit_s],
                "latency_s": [rtt_s / 2, rtt_s / 2],
            }
            for index in range(1, len(names))
        ],
        "ops": ops,
        "tensors": [{"name": n, "size_bytes": size} for n, size in graph.tensors.items()],
        "weights": graph.weights,
        "inputs": {source: names[0]},
        "outputs": {answer: names[0]},
        "constraints": {},
    }


CODECS = [
    {
        "name": "fp16",
        "ratio": 0.5,
        "loss": 0.0002,
        "encode_s_per_byte": 1.8e-9,
        "decode_s_per_byte": 1.2e-9,
    },
    {
        "name": "int8",
        "ratio": 0.25,
        "loss": 0.004,
        "encode_s_per_byte": 0.25e-9,
        "decode_s_per_byte": 0.1e-9,
    },
]
