"""Every model that can be tiled: one group, a group a stage, and uneven groups in between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from examples.models import MODELS
from partc.errors import PassError
from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.passes.tiling.ranges import TileableRange, tileable_groups
from tests.passes.tiling.support import (
    STAR,
    TOLERANCE,
    even_groups,
    feeds_of,
    ingest,
    run_unoptimised,
    tiled,
)
from tests.support.data import TRAINED_MODELS, TrainedModel, trained_model
from tests.support.oracle import Array, run_whole
from tests.support.placements import ingested

LARGE = ("resnet50", "inceptionv4")
LARGE_TRAINED = ("resnet56", "deeplabv3", "mobilenetv2")
TILEABLE = {each.name: each for each in TRAINED_MODELS if each.name != "silero-vad"}


def ways_to_tile(program: Program, axis: int) -> dict[str, list[TileGroup]]:
    found: dict[str, list[TileGroup]] = {"one group": [], "every stage": [], "uneven": []}
    for each in tileable_groups(program).along(axis):
        last = len(each.cuts) - 1
        found["one group"] += even_groups(each, [1, 1], _ends(each, axis, 6))
        found["every stage"] += even_groups(each, [2, 1, 1], list(range(1, last + 1)))
        found["uneven"] += even_groups(each, [1, 3, 1, 2], _ends(each, axis, 3))
    return found


def _ends(tileable: TileableRange, axis: int, step: int) -> list[int]:
    """The whole range as one group along rows; along channels, where every dense convolution
    needs all channels of the one before, groups are short."""
    last = len(tileable.cuts) - 1
    if axis != 1 and step == 6:
        return [last]
    return sorted({*range(step, last, step), last})


def own_rounding(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, float]:
    """How far the whole model's own answers are apart when ONNX Runtime optimises it or not."""
    one, other = run_whole(model, feeds), run_unoptimised(model, feeds)
    return {name: _distance(one[name], other[name]) for name in one}


def _distance(actual: Array, expected: Array) -> float:
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    return float(np.abs(actual.astype(np.float64) - expected).max(initial=0)) / scale


def check(name: str, model: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
    program = ingested(model, STAR, sample=feeds)
    expected = run_whole(model, feeds)
    allowed = own_rounding(model, feeds)
    tileable = tileable_groups(program)
    tileable.require(name)
    for axis in sorted({each.axes[-1] for each in tileable.ranges}):
        for way, groups in ways_to_tile(program, axis).items():
            actual = run_whole(tiled(program, groups).model, feeds)
            for output, wanted in expected.items():
                what = f"{name}: {output}, axis {axis}, {way}"
                assert actual[output].shape == wanted.shape, what
                if wanted.dtype.kind in "biu":
                    np.testing.assert_array_equal(actual[output], wanted, what)
                    continue
                # Deep random models carry rounding that any other kernel order changes more.
                limit = max(TOLERANCE, allowed[output])
                assert _distance(actual[output], wanted) <= limit, what


def check_built(name: str) -> None:
    model = MODELS[name]()
    check(name, model, feeds_of(ingest(model)))


def check_trained(trained: TrainedModel) -> None:
    check(trained.name, onnx.load(trained.path()), trained.sample())


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_built_models(name: str) -> None:
    check_built(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_built_models(name: str) -> None:
    check_built(name)


@pytest.mark.parametrize("name", [name for name in TILEABLE if name not in LARGE_TRAINED])
def test_trained_models(name: str) -> None:
    check_trained(TILEABLE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_TRAINED)
def test_large_trained_models(name: str) -> None:
    check_trained(TILEABLE[name])


def test_a_model_of_one_conditional_cannot_be_tiled() -> None:
    trained = trained_model("silero-vad")
    program = ingested(onnx.load(trained.path()), STAR, sample=trained.sample())
    with pytest.raises(PassError, match=r"silero_vad.* cannot be tiled: op .*\(If\) chooses"):
        tileable_groups(program).require("silero_vad")
