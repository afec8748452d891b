"""Synthetic placement problems shaped like real networks, for the solver's benchmarks."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

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


class Network(NamedTuple):
    """A graph with the tensors that enter and leave it."""

    graph: GraphWriter
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def encoder_like(layers: int = 24, seed: int = 1, parts: int = 75) -> Network:
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
    return Network(graph, ("x",), (graph.op([y], 4096.0, 1e-4),))


def long_chain(ops: int = 10_000, seed: int = 1) -> Network:
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
    return Network(graph, ("x",), (recent[-1],))


def placed(
    network: Network,
    *,
    slowdowns: list[float],
    mbit_s: float = 100.0,
    rtt_s: float = 0.002,
    star: bool = False,
) -> dict[str, Any]:
    """The problem of a network on hosts that are so many times slower than the fastest."""
    graph = network.graph
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
        "inputs": dict.fromkeys(network.inputs, names[0]),
        "outputs": dict.fromkeys(network.outputs, names[0]),
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
