"""Do tiles pay? ``python -m benchmarks.horizontal [MODEL ...]``.

A client and two servers of one thread, each server on a core of its own. First over bare loopback:
one server against what the optimizer chooses for two, request by request in turns, and predicted
against measured. Then over emulated links: the optimizer's choice against the best of one server
alone and even tiles of the whole range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import partc
from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.exchange_cost import measured_exchange_cost
from partc.ir.program import Program
from partc.ir.tiling import shares_to_bounds
from partc.ir.topology import Topology
from partc.measure.store import CostStore
from partc.message_cost import measured_message_cost
from partc.passes.contract import Context
from partc.passes.emit.emit_bundle import emit_bundle
from partc.passes.tiling.ranges import tileable_groups
from partc.pipeline import DEFAULT_PIPELINE, Pipeline
from partc.runtime.local import LocalDeployment
from partc.targets.protocol import Array

FAST_MBIT_S = 1e5  # loopback: as good as no limit
LINKS_MBIT_S = (20.0, 100.0, 1000.0)
RTT_MS = 0.5
PAUSE_S = 0.05
_WARMUP = 3


def fully_convolutional(side: int = 512, channels: int = 32, layers: int = 8) -> onnx.ModelProto:
    """3 x 3 convolutions with ReLU over a large picture, as segmentation networks begin."""
    draw = np.random.default_rng(0)
    nodes, weights, source, wide = [], [], "image", 3
    for number in range(layers):
        values = draw.standard_normal((channels, wide, 3, 3)) * np.sqrt(2 / (9 * wide))
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        stride = 2 if number in (0, 3) else 1
        nodes.append(
            helper.make_node(
                "Conv", [source, f"w{number}"], [f"c{number}"], f"conv{number}",
                pads=[1, 1, 1, 1], strides=[stride, stride],
            )
        )  # fmt: skip
        made = "features" if number == layers - 1 else f"r{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [made], f"relu{number}"))
        source, wide = made, channels
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "fully_convolutional",
        [value("image", TensorProto.FLOAT, [1, 3, side, side])],
        [value("features", TensorProto.FLOAT, [1, channels, side // 4, side // 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


SOURCES: dict[str, Callable[[], onnx.ModelProto]] = {
    **MODELS,
    "fully_convolutional": fully_convolutional,
}


@dataclass(frozen=True)
class Outcome:
    """One model over one kind of link; seconds are medians of whole requests.

    Attributes:
        chosen: what the optimizer chose: ``tiles`` or ``one host``.
        predicted_s: of the choice.
        twice: share of the work that the choice does twice, and that even tiles of the whole do.
    """

    model: str
    mbit_s: float
    chosen: str
    predicted_s: float
    chosen_s: float
    one_server_s: float
    even_tiles_s: float

    @property
    def speed_up(self) -> float:
        """Over one server."""
        return self.one_server_s / self.chosen_s

    @property
    def error(self) -> float:
        """Of the prediction."""
        return abs(self.predicted_s / self.chosen_s - 1)

    @property
    def regret(self) -> float:
        """How much slower than the better of the simple ways; below 0 where it is faster."""
        return self.chosen_s / min(self.one_server_s, self.even_tiles_s) - 1


def topology_at(mbit_s: float, use: str = "auto") -> Topology:
    """A client that only asks, and two servers that are joined."""
    rtt_ms = 0.0 if mbit_s == FAST_MBIT_S else RTT_MS
    pairs = [("client", "left"), ("client", "right"), ("left", "right")]
    return Topology.parse(
        {
            "hosts": {"client": {}, "left": {}, "right": {}},
            "links": [
                {"between": list(pair), "bandwidth_mbit_s": mbit_s, "rtt_ms": rtt_ms}
                for pair in pairs
            ],
            "tiles": {"use": use},
            "constraints": {"forbid": {"client": ["*"]}},
        }
    )


class Study:
    """One model."""

    def __init__(self, name: str, folder: Path, store: CostStore, requests: int) -> None:
        self.name, self.folder, self.store, self.requests = name, folder, store, requests
        self.message_cost = measured_message_cost(store)
        self._bundles = 0

    def outcome(self, mbit_s: float) -> Outcome:
        """Compile the three ways, and let them take turns."""
        chosen = self._compiled(topology_at(mbit_s))
        one = self._compiled(topology_at(mbit_s, use="never"))
        even = self._even_tiles(topology_at(mbit_s))
        emulate = mbit_s != FAST_MBIT_S
        with ExitStack() as stack:
            ways = [
                stack.enter_context(LocalDeployment(bundle, emulate, deadline_s=600.0))
                for bundle in (chosen, one, even)
            ]
            feeds = partc.Bundle.open(chosen).golden()[0]
            samples = self._in_turns(ways, feeds)
        manifest = partc.Bundle.open(chosen).manifest
        tiled = any("@" in op for s in manifest.plan.segments for op in s.ops)
        return Outcome(
            self.name,
            mbit_s,
            "tiles" if tiled else "one host",
            manifest.certificate.predicted_s,
            *(statistics.median(row) for row in samples),
        )

    def _in_turns(self, ways: list[LocalDeployment], feeds: dict[str, Array]) -> list[list[float]]:
        samples: list[list[float]] = [[] for _ in ways]
        for turn in range(self.requests + _WARMUP):
            for row, way in zip(samples, ways, strict=True):
                # The first request after another way's finds that way's weights in the caches.
                for request in range(2):
                    time.sleep(PAUSE_S)
                    answer = way.request(feeds)
                    assert not answer.failures, answer.failures
                    if turn >= _WARMUP and request:
                        row.append(answer.latency_s)
        return samples

    def _path(self) -> Path:
        self._bundles += 1
        return self.folder / f"{self.name}-{self._bundles}"

    def _compiled(self, topology: Topology) -> Path:
        path = self._path()
        partc.compile(SOURCES[self.name](), topology, output=path, store=self.store)
        return path

    def _even_tiles(self, topology: Topology) -> Path:
        """The longest range of rows in two equal parts, whatever that costs."""
        context = Context(
            topology,
            store=self.store,
            message_cost=self.message_cost,
            exchange_cost=partial(measured_exchange_cost, store=self.store),
        )
        before, _, after = DEFAULT_PIPELINE.partition("plan-tiles,")
        program = partc.load(SOURCES[self.name]())
        program = Pipeline.parse(before.rstrip(",")).run(program, topology, context=context)
        made = Pipeline.parse(after).run(_evenly(program), topology, context=context)
        path = self._path()
        emit_bundle(made, topology, "given", path)
        return path


def _evenly(program: Program) -> Program:
    assert program.plan is not None
    rows = tileable_groups(program).along(2)[0]
    last = len(rows.cuts) - 1
    bounds = shares_to_bounds(rows.rows[last], [1.0, 1.0])
    group = rows.group(0, last, ("left", "right"), bounds)
    placement = dict.fromkeys(program.plan.placement, "left")
    plan = replace(program.plan, placement=placement, tiling=(group,), transfers=())
    return replace(program, plan=plan)


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.horizontal")
    parser.add_argument(
        "models", nargs="*", default=["inceptionv4", "resnet50", "fully_convolutional"]
    )
    parser.add_argument("--requests", type=int, default=15)
    parser.add_argument("--links", type=float, nargs="*", default=list(LINKS_MBIT_S))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: list[Outcome] = []
    if not given.json:
        print(describe_machine())
        print(
            f"{'model':20}{'Mbit/s':>9}{'chosen':>10}{'predicted':>11}{'measured':>10}"
            f"{'error':>8}{'one':>9}{'even':>9}{'speed-up':>10}{'regret':>8}"
        )
    with tempfile.TemporaryDirectory() as folder:
        store = CostStore(Path(folder) / "costs.sqlite")
        for name in given.models:
            study = Study(name, Path(folder), store, given.requests)
            for mbit_s in (FAST_MBIT_S, *given.links):
                found.append(study.outcome(mbit_s))
                if not given.json:
                    _print(found[-1])
    if given.json:
        print(json.dumps([asdict(each) for each in found], indent=1))


def _print(each: Outcome) -> None:
    speed = "loopback" if each.mbit_s == FAST_MBIT_S else f"{each.mbit_s:g}"
    seconds = (each.predicted_s, each.chosen_s, each.one_server_s, each.even_tiles_s)
    predicted, chosen, one, even = (f"{1e3 * value:.1f} ms" for value in seconds)
    print(
        f"{each.model:20}{speed:>9}{each.chosen:>10}{predicted:>11}{chosen:>10}"
        f"{100 * each.error:>7.1f}%{one:>9}{even:>9}{each.speed_up:>9.2f}x"
        f"{100 * each.regret:>7.1f}%",
        flush=True,
    )


if __name__ == "__main__":
    main()
