"""What a segment needs in memory: by liveness, as the optimizer counts it, and measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from examples.models import MODELS
from partc.api import load
from partc.errors import PassError, TargetError
from partc.ir.program import Program
from partc.ir.topology import Host, Topology
from partc.optimizer.evaluation import evaluate
from partc.optimizer.problem import Constraints, Op, Problem, Tensor
from partc.optimizer.problem import Host as ProblemHost
from partc.targets import resident
from partc.targets.memory import segment_memory
from partc.targets.power import Power, power_of, powered
from partc.targets.resident import measure_resident
from tests.support.nasty_models import parsed
from tests.support.placements import ingested
from tests.support.random_graphs import RandomModel, onnx_models

KIB = 1024
# Each tensor has 1 KiB.
CHAIN = """g (float[256] x) => (float[256] z) {
    a = Exp(x)
    b = Sin(a)
    c = Cos(b)
    z = Add(c, a)
}"""


def program(graph: str) -> Program:
    return ingested(
        parsed(graph, {}).model,
        pipeline="infer-shapes,fold-constants,group-blocks{fused=false}",
    )


def every(found: Program) -> list[str]:
    return [op.name for op in found.placed_ops]


def test_a_tensor_lives_from_its_maker_to_its_last_reader() -> None:
    found = program(CHAIN)
    # x is held by the caller; at the last op c, a and z are alive as well.
    assert segment_memory(found, every(found)).peak_activation_bytes == 4 * KIB
    first, second, third, last = every(found)
    assert segment_memory(found, [first]).peak_activation_bytes == 2 * KIB
    # b is read and gone once c is made; a only passes by and is not in the segment.
    assert segment_memory(found, [second, third]).peak_activation_bytes == 3 * KIB
    assert segment_memory(found, [last]).peak_activation_bytes == 3 * KIB


def test_what_leaves_a_segment_stays_until_its_end() -> None:
    found = program(CHAIN)
    first, second, third, _ = every(found)
    assert segment_memory(found, [first, second, third]).peak_activation_bytes == 4 * KIB
    nothing_but_c = segment_memory(found, [first, second, third], outputs=["c"])
    assert nothing_but_c.peak_activation_bytes == 3 * KIB


def test_a_weight_counts_once() -> None:
    graph = """g (float[4,4] x) => (float[4,4] y)
        <float[4,4] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}> {
        a = MatMul(x, w)
        y = MatMul(a, w)
    }"""
    found = program(graph)
    memory = segment_memory(found, every(found))
    assert memory.weights_bytes == 64
    assert memory.total_bytes == 64 + memory.peak_activation_bytes


def test_sizes_that_nobody_knows_are_named() -> None:
    found = program(CHAIN)
    tensors = {name: info for name, info in found.tensors.items() if name != "b"}
    partly = replace(found, tensors=tensors)
    memory = segment_memory(partly, every(partly))
    assert memory.unknown == ("b",)
    assert memory.peak_activation_bytes == 4 * KIB


def test_without_blocks_there_is_a_sentence() -> None:
    with pytest.raises(PassError, match="needs blocks; run group-blocks first"):
        segment_memory(Program(model=onnx.ModelProto()), [])


def simulated(found: Program) -> int:
    """Peak of carrying out the blocks one by one, freeing what nobody reads any more."""
    blocks = found.blocks or ()
    sizes = {name: info.size_bytes for name, info in found.tensors.items() if info.is_sized}
    read_later = [
        {tensor for later in blocks[step + 1 :] for tensor in later.inputs}
        for step in range(len(blocks))
    ]
    entering = {tensor for block in blocks for tensor in block.inputs} - {
        tensor for block in blocks for tensor in block.outputs
    }
    alive, peak = set(entering), 0
    for block, later in zip(blocks, read_later, strict=True):
        alive |= set(block.outputs)
        peak = max(peak, sum(sizes.get(tensor, 0) for tensor in alive))
        alive = {t for t in alive if t in later or t in entering or t in found.outputs}
    return peak


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=onnx_models())
def test_the_peak_is_that_of_a_simulation(model: RandomModel) -> None:
    found = ingested(model.model, sample=model.feeds)
    memory = segment_memory(found, every(found))
    assert memory.peak_activation_bytes == simulated(found)


def test_the_optimizer_counts_no_more() -> None:
    """It frees an input after its last reader; a caller holds it until the segment ends."""
    for name in ("mobilenetv2", "branching", "transformer"):
        found = ingested(MODELS[name](seed=0))
        blocks = found.blocks or ()
        tensors = dict.fromkeys(
            (*found.inputs, *(t for block in blocks for t in (*block.inputs, *block.outputs)))
        )
        problem = Problem(
            objective="latency",
            hosts=(ProblemHost(name="here"),),
            ops=tuple(
                Op(name=b.name, inputs=b.inputs, outputs=b.outputs, cost_s={"here": 1.0})
                for b in blocks
            ),
            tensors=tuple(Tensor(name=t, size_bytes=found.tensor(t).size_bytes) for t in tensors),
            inputs=dict.fromkeys(found.inputs, "here"),
            outputs=dict.fromkeys(found.outputs, "here"),
            constraints=Constraints(activations=True),
        )
        counted = evaluate(problem, {b.name: "here" for b in blocks}).memory_bytes["here"]
        inputs_bytes = sum(found.tensor(name).size_bytes for name in found.inputs)
        peak_bytes = segment_memory(found, every(found)).peak_activation_bytes
        assert counted <= peak_bytes <= counted + inputs_bytes


def test_mobilenet_needs_its_widest_layer() -> None:
    found = ingested(load(MODELS["mobilenetv2"](seed=0)).model)
    memory = segment_memory(found, every(found))
    assert memory.weights_bytes == pytest.approx(14e6, rel=0.02)
    widest = 4 * 96 * 112 * 112  # the second block expands to 96 channels at full size
    assert widest < memory.peak_activation_bytes < 3 * widest


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_loaded_segment_really_takes_its_weights(backend: str) -> None:
    side = 2048  # 16 MiB of weights: more than what libraries allocate by the way
    weights = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    model = parsed(f"g (float[1,{side}] x) => (float[1,{side}] y) {{y = MatMul(x, w)}}", {}).model
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    found = measure_resident(model, backend, {"x": np.ones((1, side), np.float32)})
    assert found.running_bytes >= 0.9 * weights.nbytes
    assert found.running_bytes < 6 * weights.nbytes


def test_what_goes_wrong_in_the_other_process_is_said_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = parsed("g (float[2] x) => (float[2] y) {y = Relu(x)}", {}).model
    with pytest.raises(TargetError, match="Did you mean 'onnxruntime'"):
        measure_resident(model, "onnxruntim", {"x": np.ones(2, np.float32)})
    with pytest.raises(TargetError, match="needs tensor 'x'"):
        measure_resident(model, "onnxruntime", {})
    with pytest.raises(TargetError, match="did not end within"):
        measure_resident(model, "onnxruntime", {}, timeout_s=0.001)
    with pytest.raises(TargetError, match="was ended by signal 9; it may have run out of memory"):
        resident._read(-9, "")
    monkeypatch.setattr(resident, "_STATM", Path("/nowhere"))
    with pytest.raises(TargetError, match="which this system does not have"):
        measure_resident(model, "onnxruntime", {})


def test_power_comes_from_the_topology_and_then_from_the_target() -> None:
    assert power_of(Host(target="intel-myriad-x")) == Power(2.5, 1.0, None, None)
    given = Host(target="intel-myriad-x", power_active_w=3.0, power_tx_w=0.0)
    assert power_of(given) == Power(3.0, 1.0, 0.0, None)
    assert power_of(Host()) == Power(None, None, None, None)
    topology = Topology.parse({"hosts": {"nano": {"target": "jetson-nano"}}})
    assert powered(topology).hosts["nano"].power_active_w == 10.0
    assert topology.hosts["nano"].power_active_w is None


def test_energy_is_power_times_time_in_each_state() -> None:
    power = Power(active_w=10.0, idle_w=1.0, tx_w=4.0, rx_w=2.0)
    assert power.energy_j(0.5, 0.1, 0.2, 1.0) == pytest.approx(5.0 + 0.4 + 0.4 + 0.2)
    assert Power(10.0, None, None, None).energy_j(0.5, 0.1, 0.2, 1.0) == 5.0
    assert power.energy_j(1.0, 0.0, 0.0, 0.5) == 10.0
