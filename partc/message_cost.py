"""What a message costs on top of the link, measured over the runtime that bundles are run by."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
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
_KINDS = ("line-message-fixed", "line-message-per-byte", "request-fixed")


def measured_message_cost(
    store: CostStore | None = None, progress: Progress = no_progress
) -> MessageCost:
    """The fixed and per-byte cost of one message, from the store or by measuring it now.

    Two processes on this machine exchange tensors of two sizes over loopback; what a request
    takes beyond its segments is two messages, and what a request takes that stays in one process.
    Slope and intercept are taken from both sizes.
    """
    fingerprint = load_backend("onnxruntime").detect().fingerprint
    keys = [str(CostKey(kind, fingerprint=fingerprint)) for kind in _KINDS]
    if store is not None:
        found = store.find(keys)
        if len(found) == len(keys):
            return _message_cost([found[key] for key in keys])
    progress("measuring messages", None)
    costs = _costs(*_overheads(progress), fingerprint)
    if store is not None:
        store.add(dict(zip(keys, costs, strict=True)))
    return _message_cost(costs)


def _message_cost(costs: Sequence[Cost]) -> MessageCost:
    fixed, per_byte, request = (cost.median_s for cost in costs)
    return MessageCost(fixed, per_byte, "measured", request_fixed_s=request)


def _costs(small: Cost, large: Cost, alone: Cost, fingerprint: str) -> tuple[Cost, Cost, Cost]:
    """Intercept and slope of what messages of two sizes cost, and of a request without any.

    Errors add up.
    """
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
    request_s = alone.median_s
    fixed_s = (small.median_s - per_byte.median_s * small_bytes - request_s) / 2
    fixed = cost(fixed_s, (1 + share) / 2, share / 2)
    fixed = replace(
        fixed,
        spread_s=fixed.spread_s + alone.spread_s / 2,
        interval_s=fixed.interval_s + alone.interval_s / 2,
        settled=fixed.settled and alone.settled,
    )
    return fixed, per_byte, replace(alone, fingerprint=fingerprint)


def _overheads(progress: Progress) -> tuple[Cost, Cost, Cost]:
    """What a request takes beyond its segments: with a small tensor, a large one, and none sent.

    They take turns.
    """
    from partc.runtime.local import LocalDeployment

    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        split = _probe_bundle(Path(folder) / "split", "server")
        whole = _probe_bundle(Path(folder) / "whole", "device")
        with LocalDeployment(split, False) as two, LocalDeployment(whole, False) as one:
            small, large = (
                {"x": np.zeros(elements, np.float32)}
                for elements in (_SMALL_ELEMENTS, _LARGE_ELEMENTS)
            )
            ways = ((two, small), (two, large), (one, small))

            def once() -> list[float]:
                found: list[float] = []
                for local, feeds in ways:
                    time.sleep(_PAUSE_S)
                    answer = local.request(feeds)
                    found.append(answer.latency_s - answer.segments_s)
                return found

            for _ in range(_WARMUP_REQUESTS):
                once()
            begun_s = time.perf_counter()
            rows: list[list[float]] = []
            settled = False
            while not settled:
                progress("measuring messages", None)
                rows.append(once())
                elapsed_s = time.perf_counter() - begun_s
                columns = [list(column) for column in zip(*rows, strict=True)]
                settled = all(_RULE.verdict(column, elapsed_s) != "go on" for column in columns)
    of_small, of_large, alone = (
        summarise(column, settled=_RULE.is_met(column)) for column in columns
    )
    return of_small, of_large, alone


def _probe_bundle(output: Path, answering: str) -> Path:
    """A device that takes a vector of any length, and who answers with one element of it."""
    topology = Topology.parse(
        {
            "hosts": {"device": {}, "server": {}},
            "links": [{"between": ["device", "server"], "bandwidth_mbit_s": 1e6}],
        }
    )
    return write_probe(
        _probe_program(), topology, {"send": "device", "answer": answering}.__getitem__, output
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
