"""The models built by code are the published architectures, and they behave like networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples.models import MODELS, mobilenetv2, transformer
from examples.models.__main__ import main

Feeds = dict[str, npt.NDArray[Any]]

OP_COUNTS = {
    "mobilenetv2": 100,
    "resnet50": 122,
    "inceptionv4": 493,
    "transformer": 419,
    "detector": 56,
    "branching": 7,
    "looping": 5,
    "scanning": 6,
}

# What the authors' and the usual reference implementations report for 1000 classes.
PUBLISHED_PARAMETERS = {
    "mobilenetv2": 3_504_872,
    "resnet50": 25_557_032,
    "inceptionv4": 42_679_816,
}

OUTPUT_SHAPES: dict[str, dict[str, tuple[int | str, ...]]] = {
    "mobilenetv2": {"logits": ("N", 1000)},
    "resnet50": {"logits": ("N", 1000)},
    "inceptionv4": {"logits": ("N", 1000)},
    "transformer": {"hidden": ("N", 64, 256), "pooled": ("N", 256)},
    "detector": {"scores": ("N", 1575, 7), "boxes": ("N", 1575, 4)},
    "branching": {"probabilities": ("N", 10), "brightness": ()},
    "looping": {"answer": ("N", 4), "state": ("N", 32), "changes": ("rounds",)},
    "scanning": {"last_state": ("N", 24), "scores": ("N", 20, 3)},
}

LARGE = ("resnet50", "inceptionv4")
WHOLE_BATCH = ("branching", "looping")
"""Their control flow looks at all samples together."""


@cache
def build(name: str) -> onnx.ModelProto:
    return MODELS[name]()


@cache
def session(name: str) -> ort.InferenceSession:
    return open_session(build(name))


@pytest.fixture(scope="module", autouse=True)
def release_models() -> Iterator[None]:
    """Give the weights back to the tests that follow."""
    yield
    build.cache_clear()
    session.cache_clear()


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def make_feeds(model: onnx.ModelProto, batch: int, seed: int = 0) -> Feeds:
    """Normal floats, small token ids, and a mask that hides the last quarter."""
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or batch for dim in dims]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            feeds[value.name] = rng.standard_normal(shape, dtype=np.float32)
        elif value.name == "attention_mask":
            feeds[value.name] = np.broadcast_to(np.arange(shape[1]) < shape[1] * 3 // 4, shape)
            feeds[value.name] = feeds[value.name].astype(np.int64)
        else:
            feeds[value.name] = rng.integers(0, 1000, shape)
    return feeds


def run(name: str, feeds: Feeds) -> Feeds:
    names = [output.name for output in build(name).graph.output]
    return dict(zip(names, session(name).run(names, feeds), strict=True))


def trainable_parameters(model: onnx.ModelProto) -> int:
    """What training adjusts: running statistics are not counted, and a folded batch norm twice.

    A folded normalisation leaves one bias per channel where there were a scale and a shift.
    """
    sizes = {w.name: int(np.prod(w.dims)) for w in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm", "BatchNormalization"}:
            total += sum(sizes[name] for name in node.input[1:3])
        if node.op_type == "Conv" and len(node.input) == 3:
            total += sizes[node.input[2]]
    return total


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert trainable_parameters(build(name)) == PUBLISHED_PARAMETERS[name]


def test_bert_base_layer_has_its_published_parameter_count() -> None:
    def parameters(layers: int) -> int:
        model = transformer.build(layers=layers, width=768, heads=12, vocabulary=10)
        weights = [numpy_helper.to_array(w) for w in model.graph.initializer]
        return sum(w.size for w in weights if w.dtype == np.float32 and w.size > 1)

    assert parameters(2) - parameters(1) == 7_087_872


@pytest.mark.parametrize("name", MODELS)
def test_model_passes_the_full_check_with_the_expected_ops(name: str) -> None:
    model = build(name)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == OP_COUNTS[name]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for value in model.graph.input:
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert dims.count("N") == 1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_have_declared_shapes_and_depend_on_the_input(name: str, batch: int) -> None:
    model = build(name)
    actual = run(name, make_feeds(model, batch))
    assert set(actual) == set(OUTPUT_SHAPES[name])
    for output, shape in OUTPUT_SHAPES[name].items():
        values = actual[output]
        expected = [batch if dim == "N" else dim for dim in shape]
        if "rounds" not in expected:
            assert list(values.shape) == expected
        assert np.isfinite(values).all()
        assert np.abs(values).max() < 50
        assert values.size == 1 or values.std() > 0.01

    if name in LARGE and batch == 3:
        return
    other = run(name, make_feeds(model, batch, seed=1))
    main_output = next(iter(OUTPUT_SHAPES[name]))
    assert not np.allclose(actual[main_output], other[main_output], atol=1e-3)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in WHOLE_BATCH])
def test_each_sample_of_a_batch_is_answered_on_its_own(name: str) -> None:
    """Otherwise a split that mixes up samples could pass unseen."""
    model = build(name)
    feeds = make_feeds(model, 2)
    axis = {value.name: batch_axis(value) for value in model.graph.input}
    single = {key: np.take(value, [1], axis[key]) for key, value in feeds.items()}
    whole, alone = run(name, feeds), run(name, single)
    for value in model.graph.output:
        second = np.take(whole[value.name], [1], batch_axis(value))
        np.testing.assert_allclose(second, alone[value.name], rtol=1e-3, atol=1e-4)


def batch_axis(value: onnx.ValueInfoProto) -> int:
    return [dim.dim_param for dim in value.type.tensor_type.shape.dim].index("N")


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_bytes(name: str) -> None:
    def digest(model: onnx.ModelProto) -> str:
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()

    first = digest(build(name))
    assert digest(MODELS[name](seed=0)) == first
    if name not in LARGE:
        assert digest(MODELS[name](seed=1)) != first


def test_folding_batch_norm_keeps_the_function() -> None:
    feeds = make_feeds(build("mobilenetv2"), 1)
    unfolded = mobilenetv2.build(fold=False)
    assert len(unfolded.graph.node) == 152
    (logits,) = open_session(unfolded).run(None, feeds)
    np.testing.assert_allclose(logits, run("mobilenetv2", feeds)["logits"], rtol=1e-3, atol=1e-3)


def test_decomposing_layer_norm_keeps_the_function() -> None:
    feeds = make_feeds(build("transformer"), 1)
    decomposed = transformer.build(decompose_norm=True)
    assert {"LayerNormalization"}.isdisjoint(node.op_type for node in decomposed.graph.node)
    hidden, pooled = open_session(decomposed).run(None, feeds)
    expected = run("transformer", feeds)
    np.testing.assert_allclose(hidden, expected["hidden"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(pooled, expected["pooled"], rtol=1e-3, atol=1e-3)


def test_masked_tokens_do_not_matter_and_the_mask_reaches_every_layer() -> None:
    model = build("transformer")
    feeds = make_feeds(model, 1)
    changed = {key: value.copy() for key, value in feeds.items()}
    changed["input_ids"][:, 48:] += 1
    before, after = run("transformer", feeds), run("transformer", changed)
    np.testing.assert_array_equal(before["pooled"], after["pooled"])

    (bias,) = (node.output[0] for node in model.graph.node if node.op_type == "Where")
    assert sum(bias in node.input for node in model.graph.node) == 12


def test_the_if_takes_both_ways_and_its_bodies_reach_outside() -> None:
    model = build("branching")
    (branch,) = (node for node in model.graph.node if node.op_type == "If")
    outside = {name for node in model.graph.node for name in node.output}
    weights = {weight.name for weight in model.graph.initializer}
    for attribute in branch.attribute:
        read = {name for node in helper.get_attribute_value(attribute).node for name in node.input}
        assert read & outside
        assert read & weights

    shared = make_feeds(model, 1)["image"]
    bright = run("branching", {"image": shared + 0.01 - shared.mean()})
    dark = run("branching", {"image": shared - 0.01 - shared.mean()})
    assert np.abs(bright["probabilities"] - dark["probabilities"]).max() > 0.05


def test_the_loop_stops_by_itself_or_at_its_bound() -> None:
    quiet = np.zeros((1, 48), np.float32)
    assert run("looping", {"signal": quiet})["changes"].shape == (1,)
    loud = run("looping", make_feeds(build("looping"), 2))["changes"]
    assert 1 < len(loud) <= 8
    assert (np.diff(loud) < 0).all()


def test_command_line_writes_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "looping.onnx"
    assert main(["looping", "--output", str(path), "--seed", "3"]) == 0
    assert onnx.load(path) == MODELS["looping"](seed=3)
    assert "5 ops" in capsys.readouterr().err

    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(MODELS)


def test_command_line_names_the_closest_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["mobilenet_v2"])
    assert left.value.code == 2
    assert "did you mean mobilenetv2?" in capsys.readouterr().err


def test_command_line_says_why_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["looping", "-o", str(tmp_path / "missing" / "x.onnx")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
