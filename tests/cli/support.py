"""Runs the command line in this process, as a user would call it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from partc.cli.main import run

TOPOLOGY = """
[hosts.camera]
slowdown = 30.0
[hosts.server]
address = "127.0.0.1:8500"
[[links]]
between = ["camera", "server"]
bandwidth_mbit_s = 50
rtt_ms = 2
fixed_ms = 0.5
"""


@dataclass(frozen=True)
class Outcome:
    """Exit code and both streams."""

    code: int
    out: str
    err: str


def partc(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """Call ``partc`` with these arguments."""
    capfd.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return Outcome(code, captured.out, captured.err)


def small_model(path: Path) -> Path:
    """A model of four ops whose middle tensor is small: x [N,1,64,64] -> y [N,4]."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = generator.standard_normal(shape).astype(np.float32) * 0.1
        return onnx.numpy_helper.from_array(values, name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], name="conv", kernel_shape=[3, 3]),
            helper.make_node("Relu", ["a"], ["b"], name="relu"),
            helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
            helper.make_node("Flatten", ["c"], ["d"], name="flat"),
            helper.make_node("MatMul", ["d", "w2"], ["y"], name="fc"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [weight("w1", 32, 1, 3, 3), weight("w2", 32, 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def topology(path: Path, text: str = TOPOLOGY) -> Path:
    """A topology file."""
    path.write_text(text, encoding="utf-8")
    return path
