"""What a message costs that two hosts send each other while both work on a request.

`partc.message_cost` measures messages that find the other end at rest. Where tiles are computed
side by side, processors are awake and connections warm, but caches are full of weights.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.keys import CostKey
from partc.measure.statistics import summarise
from partc.measure.stopping import StoppingRule
from partc.measure.store import CostStore
from partc.passes.contract import Progress, no_progress
from partc.probe_bundle import write_probe
from partc.targets.registry import load_backend

if TYPE_CHECKING:
    from partc.runtime.device import Answer

_KIND = "line-exchange-fixed"
_ROUNDS = 8
_ROWS, _WIDTH = 32, 2048  # 16 MiB of weights push all else out of the caches, as layers do
_WARMUP_REQUESTS = 5
_RULE = StoppingRule(precision=0.05, repeats=40, budget_s=4.0)
_PAUSE_S = 0.05
_CAMERA, _LEFT, _RIGHT = "camera", "left", "right"


def measured_exchange_cost(
    s_per_byte: float, store: CostStore | None = None, progress: Progress = no_progress
) -> float:
    """Seconds of such a message besides its bytes, from the store or by measuring it now.

    Two processes on this machine take each other's tensor, compute, and do it again; what the
    request takes beyond the segments of one of them is messages.

    Args:
        s_per_byte: what each byte costs, in seconds.
    """
    fingerprint = load_backend("onnxruntime").detect().fingerprint
    key = str(CostKey(_KIND, fingerprint=fingerprint))
    if store is not None and key in (found := store.find([key])):
        return found[key].median_s
    progress("measuring exchanges", None)
    cost = replace(_measured(s_per_byte, progress), fingerprint=fingerprint)
    if store is not None:
        store.add({key: cost})
    return cost.median_s


def _measured(s_per_byte: float, progress: Progress) -> Cost:
    """From requests with many exchanges and with one, in turn."""
    from partc.runtime.local import LocalDeployment

    feeds = {"x": np.ones((_ROWS, _WIDTH), np.float32)}
    samples: list[float] = []
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        few, many = (_probe_bundle(Path(folder) / str(n), n) for n in (1, 1 + _ROUNDS))
        with LocalDeployment(few, False) as short, LocalDeployment(many, False) as long:

            def beyond_segments_s(local: LocalDeployment) -> float:
                time.sleep(_PAUSE_S)
                return _beyond_segments_s(local.request(feeds))

            def once() -> float:
                extra_s = beyond_segments_s(long) - beyond_segments_s(short)
                return max(0.0, extra_s / _ROUNDS - s_per_byte * feeds["x"].nbytes)

            for _ in range(_WARMUP_REQUESTS):
                once()
            begun_s = time.perf_counter()
            while not samples or _RULE.verdict(samples, time.perf_counter() - begun_s) == "go on":
                progress("measuring exchanges", None)
                samples.append(once())
    return summarise(samples, settled=_RULE.is_met(samples))


def _beyond_segments_s(answer: Answer) -> float:
    """The latency less what the busiest host computed."""
    busy_s: defaultdict[str, float] = defaultdict(float)
    for segment in answer.segments:
        busy_s[segment.host] += segment.seconds
    return answer.latency_s - max(busy_s.values())


def _probe_bundle(output: Path, rounds: int) -> Path:
    """Two servers that multiply what the other has made, ``rounds`` times, and a device."""
    hosts = (_CAMERA, _LEFT, _RIGHT)
    pairs = ((_CAMERA, _LEFT), (_CAMERA, _RIGHT), (_LEFT, _RIGHT))
    topology = Topology.parse(
        {
            "hosts": {host: {} for host in hosts},
            "links": [{"between": list(pair), "bandwidth_mbit_s": 1e6} for pair in pairs],
        }
    )
    return write_probe(_probe_program(rounds), topology, _host_of, output)


def _host_of(op: str) -> str:
    return {"a": _LEFT, "b": _RIGHT}.get(op[0], _CAMERA)


def _probe_program(rounds: int) -> Program:
    from partc.passes.ingest.read_model import read_model

    nodes = []
    for k in range(rounds):
        for own, other in (("a", "b"), ("b", "a")):
            source = f"{other}{k}" if k else "x"
            name = f"{own}{k + 1}"
            nodes.append(helper.make_node("MatMul", [source, "weights"], [name], name=name))
    nodes.append(helper.make_node("Add", [f"a{rounds}", f"b{rounds}"], ["y"], name="sum"))
    value = helper.make_tensor_value_info
    shape = [_ROWS, _WIDTH]
    # Each row of ones stays a row of ones, however often it is multiplied.
    weights = np.full((_WIDTH, _WIDTH), 1 / _WIDTH, np.float32)
    graph = helper.make_graph(
        nodes,
        "exchanges",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return read_model(model)
