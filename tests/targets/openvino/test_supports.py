"""Ops that OpenVINO cannot run are refused by name, with the reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from partc.errors import MissingBackendError, TargetError
from partc.targets.loading import open_model
from partc.targets.openvino import detect, library
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend
from tests.support.nasty_models import parsed

BACKEND = load_backend("openvino")


def named(graph: str, *names: str) -> onnx.ModelProto:
    model = parsed(graph, {}, **{"com.acme": 1}).model
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


def test_an_op_of_another_domain() -> None:
    model = named(
        "g (float[2,3] x) => (float[2,3] y) {a = Relu(x) b = com.acme.Foo(a) y = Neg(b)}",
        "/a/Relu, first",
        "/b/Foo, second",
        "last",
    )
    refused = BACKEND.unsupported(model)
    assert refused == {
        "/b/Foo, second": "OpenVINO does not convert the op 'com.acme.Foo' as it is used there"
    }


def test_an_op_that_writes_an_output() -> None:
    model = named("g (float[2,2] x) => (float y) {a = Relu(x) y = Det(a)}", "one", "two")
    assert list(BACKEND.unsupported(model)) == ["two"]


def test_an_op_of_a_body() -> None:
    graph = """g (float[2,2] x, bool c) => (float[2,2] z) {
        a = Relu(x)
        y = If(c) <
          then_branch = g1 () => (float[2,2] o) { o = Relu(a) },
          else_branch = g2 () => (float[2,2] p) { p = com.acme.Foo(a) }
        >
        z = Neg(y)
    }"""
    refused = BACKEND.unsupported(named(graph, "one", "branch", "three"))
    assert refused == {"branch": "OpenVINO does not convert the op 'com.acme.Foo' in its body"}


def test_a_branch_is_refused_for_the_wrong_values_that_were_seen_after_one() -> None:
    graph = """g (float[2,2] x, bool c) => (float[2,2] z) {
        y = If(c) <
          then_branch = g1 () => (float[2,2] o) { o = Relu(x) },
          else_branch = g2 () => (float[2,2] p) { p = Neg(x) }
        >
        z = Neg(y)
    }"""
    refused = BACKEND.unsupported(named(graph, "branch", "after"))
    assert refused == {"branch": "OpenVINO's CPU plug-in gives wrong values after some uses of If"}


def test_strings() -> None:
    graph = """g (string[2] x, float[2] f) => (string[2] y, float[2] z) {
        y = Identity(x)
        z = Relu(f)
    }"""
    model = named(graph, "texts", "numbers")
    assert BACKEND.unsupported(model) == {"texts": "partc hands OpenVINO no tensors of strings"}
    with (
        pytest.raises(TargetError, match=r"no tensors of type string, as 'x' is; pin the ops"),
        open_model(model, BACKEND),
    ):
        pass


def test_what_cannot_be_an_array_is_refused_at_the_boundary() -> None:
    graph = "g (float[2] x) => (seq(float[2]) y) {y = SequenceConstruct(x, x)}"
    with (
        pytest.raises(TargetError, match=r"arrays only|cannot load"),
        open_model(named(graph, "pair"), BACKEND),
    ):
        pass


SUM = "g (float[N,3] x) => (float[N,3] y) {y = Add(x, x)}"


def test_wrong_tensors_are_refused_in_a_sentence() -> None:
    with open_model(named(SUM, "sum"), BACKEND) as runner:
        with pytest.raises(TargetError, match="needs tensor 'x', which was not given"):
            runner.run({})
        with pytest.raises(TargetError, match="is of type float64, and the segment takes float32"):
            runner.run({"x": np.ones((2, 3))})
        with pytest.raises(TargetError, match="OpenVINO failed: "):
            runner.run({"x": np.ones((2, 4), np.float32)})
        with pytest.raises(TargetError, match="OpenVINO failed: "):
            runner.run({"x": np.ones(3, np.float32)})
        two = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(runner.run({"x": two, "more": two})["y"], two + two)


def test_a_batch_may_change_and_be_empty_or_have_gaps() -> None:
    with open_model(named(SUM, "sum"), BACKEND) as runner:
        for rows in (1, 5, 0, 2):
            given = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
            np.testing.assert_array_equal(runner.run({"x": given})["y"], given + given)
        wide = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::2]
        np.testing.assert_array_equal(runner.run({"x": wide})["y"], wide + wide)
        wide.flags.writeable = False
        np.testing.assert_array_equal(runner.run({"x": wide})["y"], wide + wide)


def test_answers_stay_when_the_next_request_runs() -> None:
    with open_model(named(SUM, "sum"), BACKEND) as runner:
        first = runner.run({"x": np.ones((1, 3), np.float32)})["y"]
        runner.run({"x": np.zeros((1, 3), np.float32)})
        np.testing.assert_array_equal(first, np.full((1, 3), 2, np.float32))


def test_a_level_that_is_none() -> None:
    with (
        pytest.raises(TargetError, match=r"no optimisation level 'extended'.*f32"),
        open_model(named(SUM, "sum"), BACKEND, RunSettings(optimization="extended")),
    ):
        pass


def test_without_openvino_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> object:
        raise MissingBackendError(f"OpenVINO is not installed: {library.INSTALL}")

    monkeypatch.setattr(detect, "openvino", missing)
    found = detect.detect()
    assert not found.available
    assert found.reason == "OpenVINO is not installed: pip install 'partc[openvino]'"


def test_hostile_files_are_refused() -> None:
    for data in (b"", b"\x00" * 100, b"not a model"):
        with pytest.raises(TargetError):
            BACKEND.runner(data, RunSettings())
