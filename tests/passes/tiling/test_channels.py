"""Layers whose weights are shared out: over output channels, and over input channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from partc.errors import PassError
from partc.ir.program import Program
from partc.ir.tiling import TileGroup, TileKind
from partc.passes.contract import Context
from partc.passes.lower.split import Split
from tests.passes.tiling.single_ops import draw_weights, single_op
from tests.passes.tiling.support import (
    SERVERS,
    STAR,
    assert_close,
    feeds_of,
    ingest,
    planned,
    tiled,
)
from tests.support.nasty_models import parsed
from tests.support.oracle import run_whole

LAYERS = {
    "conv": """g (float[N,6,8,8] x) => (float[N,4,8,8] y) <float[4,6,3,3] w, float[4] b>
        { a = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(a) }""",
    "gemm": """g (float[N,6] x) => (float[N,5] y) <float[6,5] w, float[5] b>
        { a = Gemm<alpha=0.5, beta=2.0>(x, w, b) y = Relu(a) }""",
    "gemm transposed": """g (float[N,6] x) => (float[N,5] y) <float[5,6] w>
        { a = Gemm<transB=1>(x, w) y = Relu(a) }""",
    "matmul": """g (float[N,7,6] x) => (float[N,7,5] y) <float[6,5] w>
        { a = MatMul(x, w) y = Gelu(a) }""",
}


def layer(name: str) -> tuple[onnx.ModelProto, Program]:
    model = draw_weights(parsed(LAYERS[name], {}, opset=20).model)
    return model, ingest(model)


def summed(program: Program, bounds: tuple[int, ...], sum_at: str | None = None) -> TileGroup:
    return TileGroup(
        blocks=tuple(block.name for block in program.blocks or ()),
        entry="x",
        exit="y",
        hosts=SERVERS[: len(bounds) - 1],
        bounds=bounds,
        axis=1,
        kind="input-channels",
        sum_at=sum_at,
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bounds", [(0, 3, 6), (0, 1, 6), (0, 2, 3, 5, 6)])
def test_a_sum_over_input_channels(name: str, bounds: tuple[int, ...]) -> None:
    model, program = layer(name)
    feeds = feeds_of(program)
    for sum_at in (None, "s3", "hub"):
        rewritten = tiled(program, [summed(program, bounds, sum_at)])
        assert_close(run_whole(rewritten.model, feeds), run_whole(model, feeds))


@pytest.mark.parametrize("kind", ["tiles", "input-channels"])
def test_no_host_is_given_all_weights(kind: TileKind) -> None:
    _, program = layer("conv")
    group = replace(summed(program, (0, 2, 6)), kind=kind)
    if kind == "tiles":
        group = replace(group, bounds=(0, 1, 4))
    whole = 4 * 6 * 9 * 4
    rewritten = tiled(program, [group])
    segments = Split().run(rewritten, Context(STAR)).program.segments or ()
    for segment in segments:
        assert segment.model is not None
        held = sum(
            onnx.numpy_helper.to_array(w).nbytes
            for w in segment.model.graph.initializer
            if w.name.startswith("w")
        )
        assert held < whole


def test_columns_of_one_layer_and_rows_of_the_next_need_no_gather_between_them() -> None:
    text = """g (float[N,7,6] x) => (float[N,7,4] y) <float[6,8] w, float[8,4] v>
        { a = MatMul(x, w) b = Gelu(a) c = MatMul(b, v) y = Relu(c) }"""
    model = draw_weights(parsed(text, {}, opset=20).model)
    program = ingest(model)
    blocks = [block.name for block in program.blocks or ()]
    position = next(i for i, block in enumerate(program.blocks or ()) if "b" in block.outputs) + 1
    first = TileGroup(tuple(blocks[:position]), "x", "b", SERVERS[:2], (0, 3, 8), axis=2)
    second = TileGroup(
        tuple(blocks[position:]), "b", "y", SERVERS[:2], (0, 3, 8), axis=2, kind="input-channels"
    )
    rewritten = tiled(program, [first, second])
    assert_close(run_whole(rewritten.model, feeds_of(program)), run_whole(model, feeds_of(program)))
    assert not [op for op in rewritten.ops if op.op_type in ("Concat", "Slice")]


def test_a_layer_with_groups_is_no_sum() -> None:
    model = single_op("conv grouped")
    program = ingest(model)
    with pytest.raises(PassError, match="has groups"):
        tiled(program, [summed(program, (0, 2, 4))])


def test_the_entry_must_be_read_by_one_layer() -> None:
    model = single_op("broadcast")
    program = ingest(model)
    with pytest.raises(PassError, match="2 ops read 'x'"):
        tiled(program, [summed(program, (0, 2, 4))])


def test_planned_programs_are_left_alone() -> None:
    _, program = layer("conv")
    before = np.array([w.ByteSize() for w in program.model.graph.initializer])
    given = planned(program, [summed(program, (0, 3, 6))])
    tiled(program, [summed(program, (0, 3, 6))])
    after = np.array([w.ByteSize() for w in given.model.graph.initializer])
    np.testing.assert_array_equal(before, after)
