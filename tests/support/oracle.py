"""The answer to compare with: the whole model in one ONNX Runtime session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

Array = npt.NDArray[Any]

# What rounding may do, as a share of the largest value of the tensor. Two runs of one model
# round differently when a cut changes which ops are fused. A double is held to no more than a
# float32, since it is often one that a Cast has widened.
RELATIVE_TOLERANCE = {
    np.dtype(np.float16): 5e-3,
    np.dtype(np.float32): 1e-4,
    np.dtype(np.float64): 1e-4,
}
SMALLEST_SCALE = 1e-3
"""Tensors with only smaller values than this are compared as if they reached it."""


def run_whole(
    model: onnx.ModelProto | Path,
    feeds: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
) -> dict[str, Array]:
    """Run a model as it is, on the CPU, fully optimised, on one thread.

    Args:
        model: a model in memory or its file, which may keep weights in external data.
        feeds: a value for every input.
        outputs: which tensors to return, inner ones included; None for the model's outputs.
    """
    names = list(outputs) if outputs is not None else None
    if names is not None:
        model = _with_outputs(model, names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if isinstance(model, Path):
        source: str | bytes = str(model)
    else:
        source = _without_repeated_names(model).SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    if names is None:
        names = [output.name for output in session.get_outputs()]
    # An empty list means every output to ONNX Runtime.
    return dict(zip(names, session.run(names, dict(feeds)), strict=True)) if names else {}


def assert_same(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Fail unless both hold the same tensors, up to rounding of floats.

    Types and shapes must be equal, integers, booleans and strings exactly so; NaN and the
    infinities must stand at the same places.
    """
    if set(actual) != set(expected):
        missing, extra = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
        raise AssertionError(f"other tensors than expected: missing {missing}, extra {extra}")
    for name, wanted in expected.items():
        _assert_same_tensor(name, actual[name], wanted)


def _assert_same_tensor(name: str, actual: Array, expected: Array) -> None:
    if actual.dtype != expected.dtype:
        raise AssertionError(f"{name}: type {actual.dtype} instead of {expected.dtype}")
    if actual.shape != expected.shape:
        raise AssertionError(f"{name}: shape {actual.shape} instead of {expected.shape}")
    if not np.issubdtype(expected.dtype, np.floating):
        _refuse(name, actual, expected, (actual != expected).astype(np.float64), "must be equal")
        return

    finite = np.isfinite(expected)
    special = ~finite | ~np.isfinite(actual)
    agree = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    wrong = special & ~agree
    _refuse(name, actual, expected, wrong.astype(np.float64), "NaN and infinity must agree")

    tolerance = RELATIVE_TOLERANCE[expected.dtype]
    values = np.where(finite, expected, 0).astype(np.float64)
    scale = max(float(np.abs(values).max(initial=0)), SMALLEST_SCALE)
    error = np.abs(np.where(special, 0, actual).astype(np.float64) - values)
    excess = np.where(error > tolerance * scale, error, 0)
    _refuse(name, actual, expected, excess, f"allowed {tolerance:g} x {scale:.6g}")


def _refuse(name: str, actual: Array, expected: Array, excess: Array, rule: str) -> None:
    """Raise for the element with the largest excess, if any is above 0."""
    count = int(np.count_nonzero(excess))
    if not count:
        return
    where = np.unravel_index(int(np.argmax(excess)), excess.shape)
    index = [int(i) for i in where]
    raise AssertionError(
        f"{name}: {count} of {excess.size} elements differ ({rule}); worst at {index}: "
        f"{actual[where]!r} instead of {expected[where]!r}"
    )


def _with_outputs(model: onnx.ModelProto | Path, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that also returns the inner tensors among `names`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(onnx.load(model) if isinstance(model, Path) else model)
    present = {output.name for output in copy.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy


def _without_repeated_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which nodes that share a name have none.

    ONNX lets several nodes have one name; ONNX Runtime refuses to load them.
    """
    counts = Counter(node.name for node in model.graph.node if node.name)
    if all(count == 1 for count in counts.values()):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if counts[node.name] > 1:
            node.name = ""
    return copy
