"""Sample inputs: what the user gave, or seeded random arrays of the planned shapes."""

from __future__ import annotations

import numpy as np

from partc.errors import ModelError
from partc.ir.program import Array, Program


def sample_feeds(program: Program, seed: int) -> dict[str, Array]:
    """An array for every input.

    Random values are standard normal for floats and 0 or 1 for integers, which is valid for
    token ids, masks and indices alike.

    Raises:
        ModelError: an input is of a type that cannot be drawn.
    """
    if program.sample:
        return dict(program.sample)
    generator = np.random.default_rng(seed)
    return {name: _draw(program, name, generator) for name in program.inputs}


def _draw(program: Program, name: str, generator: np.random.Generator) -> Array:
    info = program.tensor(name)
    if info.kind != "tensor" or info.planned_shape is None:
        raise ModelError(
            f"input {name!r} is a {info.kind}, for which no sample can be drawn; "
            "give one with --input"
        )
    shape = info.planned_shape
    if info.dtype == "string":
        return np.full(shape, "a", dtype=object)
    if info.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    dtype = np.dtype(info.dtype)
    if np.issubdtype(dtype, np.integer):
        return generator.integers(0, 2, shape).astype(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        return generator.standard_normal(shape).astype(dtype)
    return generator.standard_normal(shape, dtype=np.float32).astype(dtype)
