"""Compiled bundles on real hosts: what travels encoded arrives as the compiler foresaw."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import partc
from partc.bundle.manifest import Manifest
from partc.bundle.reader import Bundle
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.passes.build.segment_runs import SegmentRuns
from partc.passes.emit.emit_bundle import emit_bundle
from partc.runtime.device import Answer
from partc.runtime.local import LocalDeployment
from tests.support.narrowing import Seconds, image, verified
from tests.support.oracle import assert_same, run_whole
from tests.support.placements import QUICK


def two_hosts(codecs: list[str] | None, loss: float | None) -> Topology:
    table: dict[str, Any] = {
        "pin": {"camera": ["/stem/*"], "server": ["/body*", "/neck/*"]},
        "loss_budget": loss,
    }
    if codecs is not None:
        table["codecs"] = codecs
    return Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [
                {"between": ["camera", "server"], "bandwidth_mbit_s": 4, "rtt_ms": 1, "fixed_ms": 0}
            ],
            "constraints": table,
        }
    )


def written(program: Program, topology: Topology, output: Path) -> Bundle:
    return Bundle(output, emit_bundle(program, topology, "", output))


def foreseen(program: Program, topology: Topology, feeds: dict[str, Any]) -> dict[str, Any]:
    """The outputs with every transfer encoded, as the equivalence check runs them."""
    assert program.plan is not None
    with SegmentRuns(topology) as runs:
        return runs.with_codecs(
            program.segments or (), program.plan.transfers, feeds, program.outputs
        )


def answered(local: LocalDeployment, feeds: dict[str, Any]) -> Answer:
    """An answer in which every host took part; on a busy machine one may be late at first."""
    end_s = time.monotonic() + 20
    while True:
        answer = local.request(feeds)
        if not answer.failures or time.monotonic() > end_s:
            assert not answer.failures
            return answer
        time.sleep(0.1)


CODECS = [
    "lz4",
    "zstd",
    "fp16",
    "int8",
    "int8-channel",
    "fp16+lz4",
    "int8+zstd",
    "int8-channel+lz4",
]


@pytest.mark.parametrize("codec", CODECS)
def test_two_processes_give_what_was_foreseen(codec: str, tmp_path: Path) -> None:
    topology = two_hosts([codec], 1.0)
    program = verified(topology, {"camera": 0.001, "server": 0.0002})
    assert program.plan is not None and program.codecs is not None
    used = {t.tensor: t.codec for t in program.plan.transfers if t.codec != "none"}
    if program.codecs.ratios["/stem/Relu_out"][codec] < 0.95:
        assert used == {"/stem/Relu_out": codec}
    with LocalDeployment(written(program, topology, tmp_path / "bundle")) as local:
        for seed in range(3):
            feeds = image(seed)
            answer = answered(local, feeds)
            expected = foreseen(program, topology, feeds)
            np.testing.assert_array_equal(answer.outputs["classes"], expected["classes"])


def test_fewer_bits_are_fewer_bytes_on_the_wire(tmp_path: Path) -> None:
    sent: dict[str, int] = {}
    for name, codecs in (("none", []), ("fp16", ["fp16"]), ("int8", ["int8"])):
        topology = two_hosts(codecs, 1.0)
        program = verified(topology, {"camera": 0.001, "server": 0.0002})
        with LocalDeployment(written(program, topology, tmp_path / name)) as local:
            answer = answered(local, image())
        assert program.plan is not None
        predicted = sum(t.size_bytes for t in program.plan.transfers)
        sent[name] = answer.sent_bytes
        assert predicted <= sent[name] <= predicted + 1500, "besides tensors only small headers"
    assert sent["fp16"] < 0.6 * sent["none"]
    assert sent["int8"] < 0.35 * sent["none"]


def chain(**constraints: Any) -> Topology:
    return Topology.parse(
        {
            "hosts": {"sensor": {}, "gateway": {}, "server": {}},
            "links": [
                {
                    "between": ["sensor", "gateway"],
                    "bandwidth_mbit_s": 8,
                    "rtt_ms": 2,
                    "fixed_ms": 0.1,
                },
                {
                    "between": ["gateway", "server"],
                    "bandwidth_mbit_s": 50,
                    "rtt_ms": 4,
                    "fixed_ms": 0.1,
                },
            ],
            "constraints": constraints,
        }
    )


def star(**constraints: Any) -> Topology:
    data = chain(**constraints).model_dump(mode="json", exclude_none=True)
    data["links"][1]["between"] = ["sensor", "server"]
    return Topology.parse(data)


def bus(**constraints: Any) -> Topology:
    data = chain(**constraints).model_dump(mode="json", exclude_none=True)
    medium = {"hosts": list(data["hosts"]), "bandwidth_mbit_s": 20, "rtt_ms": 2, "fixed_ms": 0.1}
    return Topology.parse({**data, "links": [], "bus": [medium]})


PIPELINE = {"sensor": ["/stem/*"], "gateway": ["/body*"], "server": ["/neck/*"]}
RETURNING = {
    "sensor": ["/stem/*", "/head/*"],
    "gateway": ["/body*", "/neck/Relu"],
    "server": ["/neck/Conv"],
}
PASSING = {"sensor": ["/stem/*"], "server": ["/body*", "/neck/*"], "gateway": ["/head/*"]}
"""The gateway only passes on what the server needs, and gets its answer."""

PRICES: Seconds = {"sensor": 0.002, "gateway": 0.001, "server": 0.0005}


@pytest.mark.parametrize("pins", [PIPELINE, RETURNING, PASSING], ids=["there", "back", "over"])
@pytest.mark.parametrize("make", [chain, star, bus], ids=["chain", "star", "bus"])
def test_three_hosts(make: Any, pins: dict[str, list[str]], tmp_path: Path) -> None:
    """With codecs on every hop, over emulated links."""
    topology: Topology = make(pin=pins, codecs=["int8", "fp16+lz4"], loss_budget=0.5)
    program = verified(topology, PRICES)
    assert program.plan is not None
    assert any(t.codec != "none" for t in program.plan.transfers)
    feeds = image(5)
    expected = foreseen(program, topology, feeds)
    with LocalDeployment(written(program, topology, tmp_path / "bundle")) as local:
        answer = answered(local, feeds)
        hosts = {segment.host for segment in answer.segments}
        assert hosts == set(topology.hosts)
        np.testing.assert_array_equal(answer.outputs["classes"], expected["classes"])
        assert answer.latency_s > program.plan.certificate.predicted_s * 0.3


def test_the_gateway_dies_and_the_answer_is_still_right(tmp_path: Path) -> None:
    topology = chain(pin=PIPELINE)
    program = verified(topology, PRICES)
    whole = run_whole(program.model, image())
    with LocalDeployment(written(program, topology, tmp_path / "bundle"), False) as local:
        assert_same(answered(local, image()).outputs, whole)
        local.kill_host("gateway")
        answer = local.request(image())
        assert answer.failures
        assert_same(answer.outputs, whole)


def several() -> onnx.ModelProto:
    """Two images, a number, and three outputs, one of which is read again."""
    floats = TensorProto.FLOAT
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["left", "right"], ["sum"], name="sum"),
        helper.make_node("Relu", ["sum"], ["positive"], name="relu"),
        helper.make_node("Neg", ["right"], ["mirrored"], name="neg"),
        helper.make_node("Mul", ["positive", "mirrored"], ["product"], name="product"),
        helper.make_node("Cast", ["count"], ["factor"], name="cast", to=floats),
        helper.make_node("Mul", ["product", "factor"], ["scaled"], name="scale"),
        helper.make_node("ReduceSum", ["scaled"], ["total"], name="total", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "several",
        [
            info("left", floats, ["N", 64, 32]),
            info("right", floats, ["N", 64, 32]),
            info("count", TensorProto.INT64, []),
        ],
        [
            info("positive", floats, ["N", 64, 32]),
            info("scaled", floats, ["N", 64, 32]),
            info("total", floats, []),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_several_inputs_and_outputs_with_codecs(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        "left": draw.standard_normal((2, 64, 32)).astype(np.float32),
        "right": draw.standard_normal((2, 64, 32)).astype(np.float32),
        "count": np.array(3, np.int64),
    }
    pins = {"sensor": ["relu"], "gateway": ["neg"], "server": ["scale", "cast"]}
    topology = chain(pin=pins, codecs=["fp16"], loss_budget=0.01)
    bundle = partc.compile(
        several(),
        topology,
        output=tmp_path / "bundle",
        pipeline=QUICK.replace("group-blocks", "group-blocks{fused=false}"),
        sample=feeds,
    )
    manifest: Manifest = bundle.manifest
    assert "fp16" in {t.codec for t in manifest.plan.transfers}
    assert 0 < manifest.verified.loss <= 0.01
    assert {s.host for s in manifest.plan.segments} == {"sensor", "gateway", "server"}
    whole = run_whole(several(), feeds)
    with LocalDeployment(bundle) as local:
        for batch in (2, 1):
            given = {k: v[:batch] if v.ndim else v for k, v in feeds.items()}
            whole = run_whole(several(), given)
            answer = answered(local, given)
            for name, expected in whole.items():
                actual = answer.outputs[name]
                assert actual.shape == expected.shape
                error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
                assert error < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_request_that_cannot_be_encoded_travels_as_it_is(value: float, tmp_path: Path) -> None:
    """The plan says int8; these values have none, and the answer is the whole model's."""
    topology = two_hosts(["int8"], 1.0)
    program = verified(topology, {"camera": 0.001, "server": 0.0002})
    assert program.plan is not None
    assert "int8" in {t.codec for t in program.plan.transfers}
    feeds = image()
    feeds["image"][0, 1, 5, 5] = value
    whole = run_whole(program.model, feeds)
    with LocalDeployment(written(program, topology, tmp_path / "bundle"), False) as local:
        answer = answered(local, feeds)
        np.testing.assert_allclose(answer.outputs["classes"], whole["classes"], rtol=1e-4)
        ordinary = answered(local, image())
    assert ordinary.sent_bytes < 0.5 * answer.sent_bytes
