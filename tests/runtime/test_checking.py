"""Feeds against the manifest: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from partc.bundle.manifest import TensorSpec
from partc.errors import RequestError
from partc.runtime.checking import checked_tensors


def spec(name: str, dtype: str, shape: list[int | str | None] | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


IMAGE = spec("image", "float32", ["N", 3])
MASK = spec("mask", "bool", ["N"])


def test_what_fits_is_taken_as_it_is() -> None:
    image = np.zeros((2, 3), np.float32)
    taken = checked_tensors({"mask": [True, False], "image": image}, [IMAGE, MASK])
    assert taken["image"] is image
    assert list(taken) == ["image", "mask"]


@pytest.mark.parametrize(
    ("given", "specs", "sentence"),
    [
        ({}, [IMAGE], "input 'image' is missing; it is a float32 tensor of shape (N, 3)"),
        ({"imag": 0}, [IMAGE], "There is no input named 'imag'. Did you mean 'image'?"),
        (
            {"image": np.zeros((2, 3))},
            [IMAGE],
            "input 'image' must be a float32 tensor of shape (N, 3), but float64 was given",
        ),
        (
            {"image": np.zeros((2, 3), ">f4")},
            [IMAGE],
            "but byte-swapped float32 was given",
        ),
        (
            {"image": np.zeros((2, 4), np.float32)},
            [IMAGE],
            "input 'image' must have shape (N, 3), but (2, 4) was given",
        ),
        (
            {"image": np.zeros(3, np.float32)},
            [IMAGE],
            "input 'image' must have shape (N, 3), but (3,) was given",
        ),
        (
            {"image": np.zeros((2, 3), np.float32), "mask": np.zeros(3, bool)},
            [IMAGE, MASK],
            "dimension 'N' is 2 in input 'image' and 3 in input 'mask'; it must be the same",
        ),
        ({"t": np.array([1, 2], object)}, [spec("t", "string", [2])], "must hold text only"),
        ({"t": np.zeros(2, np.float32)}, [spec("t", "string", [2])], "but float32 was given"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    given: dict[str, Any], specs: list[TensorSpec], sentence: str
) -> None:
    with pytest.raises(RequestError) as caught:
        checked_tensors(given, specs)
    assert sentence in str(caught.value)


def test_unknown_ranks_and_unnamed_dimensions_fit_anything() -> None:
    specs = [
        spec("any", "int64", None),
        spec("free", "int64", [None, None]),
        spec("sloppy", "int64", ["None", "None"]),
        spec("scalar", "int64", []),
    ]
    given = {
        "any": np.zeros((1, 2, 3), np.int64),
        "free": np.zeros((1, 2), np.int64),
        "sloppy": np.zeros((4, 5), np.int64),
        "scalar": np.int64(3),
    }
    assert checked_tensors(given, specs)["scalar"].shape == ()


def test_text_in_any_form_becomes_objects() -> None:
    for array in (np.array(["a", "bc"]), np.array([b"a", b"bc"]), np.array(["a", "bc"], object)):
        taken = checked_tensors({"t": array}, [spec("t", "string", ["N"])])["t"]
        assert taken.dtype == object
        assert len(taken) == 2
