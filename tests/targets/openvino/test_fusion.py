"""What OpenVINO runs as one kernel, whatever the model calls its nodes and tensors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import load_backend
from tests.support.nasty_models import made, parsed

BACKEND = load_backend("openvino")
ONE = RunSettings()
FLOAT = onnx.TensorProto.FLOAT
IMAGE = (1, 8, 16, 16)


def network(names: dict[str, str]) -> onnx.ModelProto:
    """A convolution with its normalisation and activation, twice, and a sum of both."""
    make = onnx.helper.make_node
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
    vector = np.abs(rng.normal(size=8)).astype(np.float32) + 0.5
    nodes = [
        make("Conv", ["x", "w"], [names["a"]], name="conv 1", pads=[1, 1, 1, 1]),
        make("BatchNormalization", [names["a"], *"vvvv"], [names["b"]], name="norm 1"),
        make("Relu", [names["b"]], [names["c"]], name="relu 1"),
        make("Conv", [names["c"], "w"], [names["d"]], name="conv 2", pads=[1, 1, 1, 1]),
        make("Add", [names["c"], names["d"]], [names["y"]], name="sum"),
    ]
    io = {"x": (FLOAT, IMAGE)}
    return made(
        nodes,
        io,
        {names["y"]: (FLOAT, IMAGE)},
        {},
        weights={"w": kernel, "v": vector},
    ).model


PLAIN = {name: name for name in "abcdy"}
ODD = {
    "a": "partc_op_4",
    "b": "b,partc_op_0",
    "c": "c/WithoutBiases",
    "d": "conv 1",
    "y": "y, partc_op_1/x",
}


@pytest.mark.parametrize("names", [PLAIN, ODD], ids=["plain", "odd"])
def test_a_convolution_takes_what_follows_it(names: dict[str, str]) -> None:
    model = network(names)
    joined: dict[str, set[str]] = {node.name: {node.name} for node in model.graph.node}
    for group in BACKEND.fused_groups(model, ONE):
        together = set().union(*(joined[name] for name in group))
        for name in together:
            joined[name] = together
    assert joined["conv 1"] == {"conv 1", "norm 1", "relu 1"}
    assert not joined["conv 2"] & {"conv 1", "norm 1", "relu 1"}


@pytest.mark.parametrize("names", [PLAIN, ODD], ids=["plain", "odd"])
def test_times_belong_to_ops_of_the_model(names: dict[str, str]) -> None:
    feeds = {"x": np.ones(IMAGE, np.float32)}
    profile = BACKEND.profile(network(names), feeds, ONE, Sampling(3, 1.0, 0.0))
    assert len(profile.whole_s) >= 3
    first = {"conv 1", "norm 1", "relu 1"} & set(profile.op_s)
    second = {"conv 2", "sum"} & set(profile.op_s)
    assert first and second and first | second == set(profile.op_s)


def test_parts_of_an_op_that_was_taken_apart_count_for_it() -> None:
    graph = """g (float[4,64] x, float[64] s) => (float[4,64] z) {
        n = LayerNormalization<axis = -1>(x, s)
        z = Neg(n)
    }"""
    model = parsed(graph, {}).model
    model.graph.node[0].name, model.graph.node[1].name = "norm", "neg"
    feeds = {"x": np.ones((4, 64), np.float32), "s": np.ones(64, np.float32)}
    profile = BACKEND.profile(model, feeds, ONE, Sampling(3, 1.0, 0.0))
    assert set(profile.op_s) <= {"norm", "neg"}
    assert profile.op_s
