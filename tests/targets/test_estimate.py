"""Estimates follow the data sheet: monotone in its rates, linear in the model's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.errors import TargetError
from partc.ir.program import Block, Program
from partc.ir.tensor import TensorInfo
from partc.targets.estimate import Estimates, estimated_costs
from partc.targets.hardware import Hardware, Precision
from partc.targets.protocol import RunSettings
from partc.targets.registry import Target, load_target, preset_names

ONE = RunSettings()
rates = st.floats(1e6, 1e15)


def layer(channels: int, side: int, dtype: str = "float32") -> Program:
    """A pointwise convolution on ``side`` x ``side`` pixels, in one block."""
    shape = (1, channels, side, side)
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    info = onnx.helper.make_tensor_value_info
    weight = np.zeros((channels, channels, 1, 1), dtype)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "g",
        [info("x", number, shape)],
        [info("y", number, shape)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    return Program(
        model=onnx.helper.make_model(graph),
        tensors={name: TensorInfo(name, dtype, shape, shape) for name in ("x", "y")},
        blocks=(Block("conv", ("conv",), ("x",), ("y",), ("w",)),),
    )


def target_of(**figures: object) -> Target:
    return Target("t", "none", "", "all", Path("t.toml"), hardware=Hardware.model_validate(figures))


def kernel_s(program: Program, target: Target, settings: RunSettings = ONE) -> float:
    """Without what has nothing to do with the layer's size."""
    nothing = target_of(kind=target.hardware.kind, peak_flop_s={"fp32": 1e21})
    overhead = estimated_costs(layer(1, 1), nothing, ONE).blocks["conv"].median_s
    return estimated_costs(program, target, settings).blocks["conv"].median_s - overhead


@given(slow=rates, factor=st.floats(1.0, 1e3), bandwidth=st.floats(1e6, 1e13))
def test_a_faster_processor_is_never_slower(slow: float, factor: float, bandwidth: float) -> None:
    seconds = [
        kernel_s(
            layer(8, 16),
            target_of(peak_flop_s={"fp32": rate}, memory_bandwidth_bytes_per_s=bandwidth),
        )
        for rate in (slow, slow * factor)
    ]
    assert seconds[1] <= seconds[0] * (1 + 1e-9) + 1e-12


@given(slow=st.floats(1e6, 1e12), factor=st.floats(1.0, 1e3), rate=rates)
def test_a_faster_memory_is_never_slower(slow: float, factor: float, rate: float) -> None:
    seconds = [
        kernel_s(
            layer(8, 16),
            target_of(peak_flop_s={"fp32": rate}, memory_bandwidth_bytes_per_s=bandwidth),
        )
        for bandwidth in (slow, slow * factor)
    ]
    assert seconds[1] <= seconds[0] * (1 + 1e-9) + 1e-12


@given(rate=st.floats(1e3, 1e9), channels=st.integers(1, 24), side=st.integers(1, 12))
def test_arithmetic_is_linear_in_the_size(rate: float, channels: int, side: int) -> None:
    target = target_of(peak_flop_s={"fp32": rate})
    one = kernel_s(layer(channels, side), target)
    assert kernel_s(layer(channels, 2 * side), target) == pytest.approx(4 * one, rel=1e-3)
    assert kernel_s(layer(2 * channels, side), target) == pytest.approx(4 * one, rel=1e-3)


@given(bandwidth=st.floats(1e3, 1e7), side=st.integers(64, 128))
def test_memory_traffic_is_linear_in_the_size(bandwidth: float, side: int) -> None:
    target = target_of(peak_flop_s={"fp32": 1e20}, memory_bandwidth_bytes_per_s=bandwidth)
    one = kernel_s(layer(1, side), target)
    assert kernel_s(layer(1, 2 * side), target) == pytest.approx(4 * one, rel=1e-2)


def test_the_longer_of_arithmetic_and_traffic_counts() -> None:
    program = layer(16, 32)
    by_rate = kernel_s(program, target_of(peak_flop_s={"fp32": 1e9}))
    flops = 16 * 32 * 32 * 2 * 16
    assert by_rate == pytest.approx(flops / (0.6 * 1e9), rel=1e-2)
    slow_memory = target_of(peak_flop_s={"fp32": 1e15}, memory_bandwidth_bytes_per_s=1e8)
    moved = 4 * (2 * 16 * 32 * 32 + 16 * 16)
    assert kernel_s(program, slow_memory) == pytest.approx(moved / (0.7 * 1e8), rel=1e-2)


def test_a_processor_works_with_as_many_cores_as_there_are_threads() -> None:
    target = target_of(peak_flop_s={"fp32": 4e9}, cores=4)
    seconds = [kernel_s(layer(16, 32), target, RunSettings(threads=n)) for n in (1, 2, 4, 8)]
    assert seconds[0] == pytest.approx(2 * seconds[1], rel=1e-2)
    assert seconds[0] == pytest.approx(4 * seconds[2], rel=1e-2)
    assert seconds[3] == seconds[2]


@pytest.mark.parametrize(
    ("dtype", "offered", "taken"),
    [
        ("float32", ("fp32", "fp16", "int8"), "fp32"),
        ("float32", ("fp16",), "fp16"),
        ("float32", ("int8",), "int8"),
        ("float16", ("fp32", "fp16"), "fp16"),
        ("float16", ("fp32",), "fp32"),
        ("float64", ("fp32", "fp64"), "fp64"),
    ],
)
def test_the_precision_is_the_models_as_far_as_there_is_one(
    dtype: str, offered: tuple[Precision, ...], taken: str
) -> None:
    target = target_of(peak_flop_s=dict.fromkeys(offered, 1e9))
    assert estimated_costs(layer(4, 4, dtype), target, ONE).precision == taken


def test_weights_that_do_not_fit_come_late() -> None:
    fits = target_of(peak_flop_s={"int8": 1e12}, memory_mib=1, kind="npu")
    small = target_of(
        peak_flop_s={"int8": 1e12},
        memory_mib=1e-3,
        overflow_bandwidth_bytes_per_s=1e6,
        kind="npu",
    )
    program = layer(64, 1)
    assert kernel_s(program, fits) < 1e-4
    late = 64 * 64 - 1e-3 * 2**20  # bytes of int8 that the memory does not hold
    assert kernel_s(program, small) == pytest.approx(late / 1e6, rel=1e-3)


def test_the_whole_is_its_blocks_and_what_a_segment_costs() -> None:
    found: Estimates = estimated_costs(layer(8, 8), target_of(peak_flop_s={"fp32": 1e9}), ONE)
    blocks_s = sum(cost.median_s for cost in found.blocks.values())
    assert found.whole.median_s == pytest.approx(blocks_s + found.segment_fixed.median_s)
    every = (*found.blocks.values(), found.whole, found.segment_fixed)
    assert {(cost.provenance, cost.samples) for cost in every} == {("estimated", 0)}


def test_a_target_without_rates_cannot_be_estimated() -> None:
    with pytest.raises(TargetError, match=r"has no \[hardware.peak_flop_s\]; add the rates"):
        estimated_costs(layer(4, 4), load_target("onnxruntime-cpu"), ONE)


def test_faster_hardware_is_estimated_faster() -> None:
    order = ["arm-cpu", "raspberry-pi-5", "gtx-1080", "h200"]
    program = layer(256, 56)
    seconds = [kernel_s(program, load_target(name), RunSettings(threads=4)) for name in order]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_with_rates_is_estimated(name: str) -> None:
    target = load_target(name)
    if target.hardware.has_rates:
        assert estimated_costs(layer(64, 56), target, ONE).whole.median_s > 0


def test_a_host_is_estimated_in_the_precision_that_it_is_asked_for() -> None:
    target = target_of(peak_flop_s={"fp32": 1e9, "fp16": 2e9})
    program = layer(64, 64)
    plain = estimated_costs(program, target, ONE)
    half = estimated_costs(program, target, ONE, "fp16")
    assert (plain.precision, half.precision) == ("fp32", "fp16")
    assert half.whole.median_s < 0.6 * plain.whole.median_s
    assert estimated_costs(program, target, ONE, "int8").precision == "fp32"
