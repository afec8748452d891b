"""What a message costs on top of the link, measured over the runtime that bundles are run by."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from partc.ir.cost import Cost, MessageCost
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.keys import CostKey
from partc.measure.statistics import now, summarise
from partc.measure.stopping import StoppingRule
from partc.measure.store import CostStore
from partc.passes.contract import Progress, no_progress
from partc.probe_bundle import write_probe
from partc.targets.registry import load_backend

_SMALL_ELEMENTS, _LARGE_ELEMENTS = 256, 1 << 18
_WARMUP_REQUESTS = 5
_RULE = StoppingRule(precision=0.05, repeats=40, budget_s=4.0)
_PAUSE_S = 0.05  # single requests find caches cold, as those of a deployment do
_KINDS = ("line-message-fixed", "line-message-per-byte")


def measured_message_cost(
    store: CostStore | None = None, progress: Progress = no_progress
) -> MessageCost:
    """The fixed and per-byte cost of one message, from the store or by measuring it now.

    Two processes on this machine exchange tensors of two sizes over loopback; what a request
    takes beyond its segments is two messages. Slope and intercept are taken from both sizes.
    """
    fingerprint = load_backend("onnxruntime").detect().fingerprint
    keys = [str(CostKey(kind, fingerprint=fingerprint)) for kind in _KINDS]
    if store is not None:
        found = store.find(keys)
        if len(found) == len(keys):
            fixed, per_byte = (found[key].median_s for key in keys)
            return MessageCost(fixed, per_byte, "measured")
    progress("measuring messages", None)
    small, large = _overheads(progress)
    costs = _costs(small, large, fingerprint)
    if store is not None:
        store.add(dict(zip(keys, costs, strict=True)))
    return MessageCost(costs[0].median_s, costs[1].median_s, "measured")


def _costs(small: Cost, large: Cost, fingerprint: str) -> tuple[Cost, Cost]:
    """Intercept and slope of what messages of two sizes cost; their errors add up."""
    small_bytes, extra_bytes = _SMALL_ELEMENTS * 4, (_LARGE_ELEMENTS - _SMALL_ELEMENTS) * 4

    def cost(median_s: float, of_small: float, of_large: float) -> Cost:
        return Cost(
            max(0.0, median_s),
            small.spread_s * of_small + large.spread_s * of_large,
            small.samples,
            "measured",
            now(),
            small.interval_s * of_small + large.interval_s * of_large,
            small.settled and large.settled,
            fingerprint,
        )

    per_byte = cost(
        (large.median_s - small.median_s) / extra_bytes, 1 / extra_bytes, 1 / extra_bytes
    )
    share = small_bytes / extra_bytes
    fixed_s = (small.median_s - per_byte.median_s * small_bytes) / 2
    return cost(fixed_s, (1 + share) / 2, share / 2), per_byte


def _overheads(progress: Progress) -> tuple[Cost, Cost]:
    """What a request takes beyond its segments, with a small and with a large tensor in turn."""
    from partc.runtime.local import LocalDeployment

    sizes = (_SMALL_ELEMENTS, _LARGE_ELEMENTS)
    samples: dict[int, list[float]] = {elements: [] for elements in sizes}
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        bundle = _probe_bundle(Path(folder) / "probe")
        with LocalDeployment(bundle, emulate_links=False) as local:
            feeds = {elements: {"x": np.zeros(elements, np.float32)} for elements in sizes}

            def once(elements: int) -> float:
                time.sleep(_PAUSE_S)
                answer = local.request(feeds[elements])
                return answer.latency_s - answer.segments_s

            for _ in range(_WARMUP_REQUESTS):
                for elements in sizes:
                    once(elements)
            begun_s = time.perf_counter()
            settled = False
            while not settled:
                progress("measuring messages", None)
                for elements in sizes:
                    samples[elements].append(once(elements))
                elapsed_s = time.perf_counter() - begun_s
                settled = all(_RULE.verdict(s, elapsed_s) != "go on" for s in samples.values())
    small, large = (summarise(samples[n], settled=_RULE.is_met(samples[n])) for n in sizes)
    return small, large


def _probe_bundle(output: Path) -> Path:
    """A device that sends a vector of any length, and a server that answers with one element."""
    topology = Topology.parse(
        {
            "hosts": {"device": {}, "server": {}},
            "links": [{"between": ["device", "server"], "bandwidth_mbit_s": 1e6}],
        }
    )
    return write_probe(
        _probe_program(), topology, {"send": "device", "answer": "server"}.__getitem__, output
    )


def _probe_program() -> Program:
    from partc.passes.ingest.read_model import read_model

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["t"], name="send"),
            helper.make_node("Slice", ["t", "start", "end"], ["y"], name="answer"),
        ],
        "probe",
        [value("x", TensorProto.FLOAT, ["N"])],
        [value("y", TensorProto.FLOAT, [1])],
        [
            onnx.numpy_helper.from_array(np.array([0], np.int64), "start"),
            onnx.numpy_helper.from_array(np.array([1], np.int64), "end"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return read_model(model, bindings={"x": (_SMALL_ELEMENTS,)})
