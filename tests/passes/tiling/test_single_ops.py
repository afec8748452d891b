"""Each rule: every pair of neighbouring tiles, and tiles of one row, equal the whole."""

from __future__ import annotations

import numpy as np
import pytest

from partc.ir.tiling import TileGroup
from tests.passes.tiling.single_ops import OPS, single_op
from tests.passes.tiling.support import SERVERS, assert_close, feeds_of, ingest, tiled
from tests.support.oracle import run_whole

CASES = [(name, axis) for name, (_, _, axes) in OPS.items() for axis in axes]


@pytest.mark.parametrize(("name", "axis"), CASES, ids=lambda value: str(value).replace(" ", "-"))
def test_tiles_of_one_op(name: str, axis: int) -> None:
    model = single_op(name)
    program = ingest(model)
    feeds = feeds_of(program)
    whole = run_whole(model, feeds)
    rows = whole["y"].shape[axis]
    bounds: list[tuple[int, ...]] = [(0, k, rows) for k in range(1, rows)]
    bounds += [(0, k, k + 1, rows) for k in range(1, rows - 1)]
    for each in bounds:
        group = TileGroup(
            blocks=tuple(block.name for block in program.blocks or ()),
            entry="x",
            exit="y",
            hosts=SERVERS[: len(each) - 1],
            bounds=each,
            axis=axis,
        )
        rewritten = tiled(program, [group])
        assert_close(run_whole(rewritten.model, feeds), whole)


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("name", ["conv", "conv uneven", "conv depthwise", "conv same lower"])
def test_a_tile_of_one_convolution_is_bit_identical(name: str, axis: int) -> None:
    model = single_op(name)
    program = ingest(model)
    feeds = feeds_of(program)
    whole = run_whole(model, feeds)["y"]
    rows = whole.shape[axis]
    for cut in range(1, rows):
        group = TileGroup(
            tuple(b.name for b in program.blocks or ()), "x", "y", SERVERS[:2], (0, cut, rows), axis
        )
        actual = run_whole(tiled(program, [group]).model, feeds)["y"]
        np.testing.assert_array_equal(actual, whole)
