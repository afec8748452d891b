"""The comparison finds what it should find, and says where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.oracle import Array, assert_same, run_whole


def chain() -> onnx.ModelProto:
    """x [2] -> Neg -> inner -> Exp -> y."""
    nodes = [helper.make_node("Neg", ["x"], ["inner"]), helper.make_node("Exp", ["inner"], ["y"])]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "chain", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_run_whole_returns_the_outputs_or_any_tensor(tmp_path: Path) -> None:
    model = chain()
    path = tmp_path / "chain.onnx"
    onnx.save(model, path)
    feeds = {"x": np.array([0, 1], np.float32)}
    expected = {"y": np.exp(-feeds["x"])}
    assert_same(run_whole(model, feeds), expected)
    assert_same(run_whole(path, feeds), expected)
    expected["inner"] = -feeds["x"]
    assert_same(run_whole(model, feeds, ["inner", "y"]), expected)
    assert_same(run_whole(path, feeds, ["inner", "y"]), expected)
    assert run_whole(model, feeds, []) == {}
    assert model == chain()


def test_rounding_is_allowed_relative_to_the_largest_value() -> None:
    expected = np.array([1e-6, 100], np.float32)
    assert_same({"t": expected + np.float32(5e-3)}, {"t": expected})
    with pytest.raises(AssertionError, match="t: 2 of 2 elements differ"):
        assert_same({"t": expected + np.float32(5e-2)}, {"t": expected})


@pytest.mark.parametrize(
    "dtype, fine, wrong",
    [(np.float16, 1e-3, 1e-2), (np.float32, 1e-5, 1e-3), (np.float64, 1e-5, 1e-3)],
)
def test_tolerance_depends_on_the_type(dtype: type, fine: float, wrong: float) -> None:
    one: Array = np.ones(3, dtype)
    assert_same({"t": (one + dtype(fine)).astype(dtype)}, {"t": one})
    with pytest.raises(AssertionError, match="differ"):
        assert_same({"t": (one + dtype(wrong)).astype(dtype)}, {"t": one})


@pytest.mark.parametrize(
    "actual, expected, message",
    [
        (np.zeros(2, np.float64), np.zeros(2, np.float32), "type float64 instead of float32"),
        (np.zeros((1, 2)), np.zeros(2), r"shape \(1, 2\) instead of \(2,\)"),
        (np.array([[1, 2], [3, 5]]), np.array([[1, 2], [3, 4]]), r"worst at \[1, 1\]"),
        (np.array(True), np.array(False), r"1 of 1 elements"),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), "'b' instead of 'c'"),
        (np.array([np.nan, 1]), np.array([1, np.nan]), "NaN and infinity must agree"),
        (np.array([np.inf]), np.array([-np.inf]), "NaN and infinity must agree"),
        (np.array([np.inf]), np.array([1e300]), "NaN and infinity must agree"),
        (np.array([0.0, np.nan, 2.0]), np.array([0.0, np.nan, 3.0]), r"worst at \[2\]: .*2"),
    ],
)
def test_a_difference_is_found_and_described(actual: Array, expected: Array, message: str) -> None:
    with pytest.raises(AssertionError, match=f"tensor_name: .*{message}"):
        assert_same({"tensor_name": actual}, {"tensor_name": expected})


@pytest.mark.parametrize(
    "values",
    [
        np.array([np.nan, np.inf, -np.inf, 1.0]),
        np.zeros((0, 3), np.float32),
        np.array(["a"], object),
        np.array(7),
        np.array([65504, -65504], np.float16),
    ],
)
def test_equal_tensors_are_the_same(values: Array) -> None:
    assert_same({"t": values.copy()}, {"t": values})


def test_missing_and_extra_tensors_are_named() -> None:
    one = np.ones(1)
    with pytest.raises(AssertionError, match=r"missing \['a'\], extra \['b'\]"):
        assert_same({"b": one}, {"a": one})
