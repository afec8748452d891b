"""What a message costs on top of the link, measured over the runtime that bundles are run by."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from partc.ir.cost import Cost, MessageCost
from partc.ir.plan import Certificate, Plan
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.statistics import now
from partc.measure.store import CostStore
from partc.passes.contract import Context, Progress, no_progress
from partc.targets.registry import load_backend

_SMALL_ELEMENTS, _LARGE_ELEMENTS = 256, 1 << 18
_WARMUP_REQUESTS, _REQUESTS = 5, 25
_PAUSE_S = 0.05  # single requests find caches cold, as those of a deployment do
_FIXED_KEY, _PER_BYTE_KEY = "paused-message-fixed", "paused-message-per-byte"


def measured_message_cost(
    store: CostStore | None = None, progress: Progress = no_progress
) -> MessageCost:
    """The fixed and per-byte cost of one message, from the store or by measuring it now.

    Two processes on this machine exchange tensors of two sizes over loopback; what a request
    takes beyond its segments is two messages. Slope and intercept are taken from both sizes.
    """
    fingerprint = load_backend("onnxruntime").detect().fingerprint
    keys = [f"{key}|{fingerprint}" for key in (_FIXED_KEY, _PER_BYTE_KEY)]
    if store is not None:
        found = store.find(keys)
        if len(found) == len(keys):
            fixed, per_byte = (found[key].median_s for key in keys)
            return MessageCost(fixed, per_byte, "measured")
    progress("measuring messages", None)
    small_s, large_s = _overheads_s()
    extra_bytes = (_LARGE_ELEMENTS - _SMALL_ELEMENTS) * 4
    per_byte = max(0.0, (large_s - small_s) / extra_bytes)
    fixed = max(0.0, small_s - per_byte * _SMALL_ELEMENTS * 4) / 2
    if store is not None:
        costs = [Cost(value, 0.0, _REQUESTS, "measured", now()) for value in (fixed, per_byte)]
        store.add(dict(zip(keys, costs, strict=True)))
    return MessageCost(fixed, per_byte, "measured")


def _overheads_s() -> tuple[float, float]:
    """Seconds of a request beyond its segments, for a small and for a large tensor."""
    from partc.runtime.local import LocalDeployment

    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        bundle = _probe_bundle(Path(folder) / "probe")
        with LocalDeployment(bundle, emulate_links=False) as local:
            medians: list[float] = []
            for elements in (_SMALL_ELEMENTS, _LARGE_ELEMENTS):
                feeds = {"x": np.zeros(elements, np.float32)}
                samples: list[float] = []
                for _ in range(_WARMUP_REQUESTS + _REQUESTS):
                    time.sleep(_PAUSE_S)
                    answer = local.request(feeds)
                    samples.append(answer.latency_s - answer.segments_s)
                medians.append(statistics.median(samples[_WARMUP_REQUESTS:]))
    return medians[0], medians[1]


def _probe_bundle(output: Path) -> Path:
    """A device that sends a vector of any length, and a server that answers with one element."""
    from partc.passes.emit.emit_bundle import emit_bundle
    from partc.pipeline import Pipeline

    topology = Topology.parse(
        {
            "hosts": {"device": {}, "server": {}},
            "links": [{"between": ["device", "server"], "bandwidth_mbit_s": 1e6}],
        }
    )
    text = "infer-shapes,group-blocks{fused=false}"
    context = Context(topology)
    program = Pipeline.parse(text).run(_probe_program(), topology, context=context)
    plan = Plan(
        placement={"send": "device", "answer": "server"},
        transfers=(),
        strategies=(),
        certificate=Certificate("latency", 0.0, 0.0, 0.0, "feasible", "given", 0.0),
        verdict=None,
        sweep=(),
        problem={},
    )
    program = Pipeline.parse("split,verify").run(
        replace(program, plan=plan), topology, context=context
    )
    emit_bundle(program, topology, text, output)
    return output


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
