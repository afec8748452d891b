"""Rows that only some ops need: cut away, or carried along where that saves Slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest

from partc.ir.program import Program
from partc.ir.tiling import Margins, TileGroup
from partc.passes.build.verify import Verify
from partc.passes.contract import Context
from partc.passes.lower.split import Split
from partc.passes.tiling.ranges import tileable_groups
from tests.passes.tiling.single_ops import draw_weights
from tests.passes.tiling.support import STAR, assert_close, even_groups, feeds_of, ingest, tiled
from tests.support.nasty_models import parsed
from tests.support.oracle import run_whole

RESIDUAL = """g (float[N,4,32,8] x) => (float[N,4,32,8] y)
    <float[4,4,1,1] p, float[4,4,3,3] q, float[4,4,1,1] r,
     float[4,4,1,1] s, float[4,4,3,3] t, float[4,4,1,1] u> {
        a = Conv(x, p)
        b = Conv<pads=[1,1,1,1]>(a, q)
        c = Conv(b, r)
        d = Add(c, x)
        e = Relu(d)
        f = Conv(e, s)
        h = Conv<pads=[1,1,1,1]>(f, t)
        i = Conv(h, u)
        j = Add(i, e)
        y = Relu(j) }"""


def residual() -> tuple[onnx.ModelProto, Program]:
    model = draw_weights(parsed(RESIDUAL, {}, opset=18).model)
    return model, ingest(model)


def groups(
    program: Program, margins: Margins, ends: Sequence[int] | None = None
) -> list[TileGroup]:
    (tileable,) = tileable_groups(program).along(2)
    found = even_groups(tileable, [1, 1, 1], ends)
    return [replace(group, margins=margins) for group in found]


def slices_of(program: Program, host: str) -> list[str]:
    assert program.plan is not None
    return [
        op.name
        for op in program.ops
        if op.op_type == "Slice" and program.plan.placement[op.name] == host
    ]


@pytest.mark.parametrize("margins", ["auto", "cut", "kept"])
def test_both_ways_give_the_answer(margins: Margins) -> None:
    model, program = residual()
    feeds = feeds_of(program)
    for ends in (None, [2, 4], [1, 2, 3, 4]):
        rewritten = tiled(program, groups(program, margins, ends))
        assert_close(run_whole(rewritten.model, feeds), run_whole(model, feeds))
        cut = Split().run(rewritten, Context(STAR)).program
        assert Verify().run(cut, Context(STAR)).program.verification is not None


def test_carried_rows_need_one_cut_at_the_end() -> None:
    _, program = residual()
    assert len(slices_of(tiled(program, groups(program, "cut")), "s1")) == 2
    kept = tiled(program, groups(program, "kept"))
    (only,) = slices_of(kept, "s1")
    assert "y@s1" in only
    assert kept.tiled is not None
    rows = {span for (_, _, host), span in kept.tiled.rows.items() if host == "s1"}
    assert rows == {(9, 24)}  # 11 to 22 are wanted, and each of two windows needs one row more


def test_a_short_group_takes_its_own_rows_as_they_are() -> None:
    _, program = residual()
    rewritten = tiled(program, groups(program, "auto", [2, 4]))
    # Rows for the neighbours are cut off, and nothing else.
    assert rewritten.plan is not None
    of_entry = [name for name in slices_of(rewritten, "s1") if name.startswith("Slice_e[")]
    assert len(of_entry) == 2  # one row for each neighbour
    for name in of_entry:
        readers = rewritten.consumers[rewritten.op_by_name[name].outputs[0]]
        assert {rewritten.plan.placement[op.name] for op in readers}.isdisjoint({"s1"})


def test_wrong_rows_never_leave_a_tile() -> None:
    """The zeros with which a convolution pads in the middle of an image reach no other host."""
    _, program = residual()
    rewritten = tiled(program, groups(program, "kept"))
    feeds = feeds_of(program)
    assert rewritten.tiled is not None
    names = [n for n in rewritten.tiled.parts if rewritten.producer.get(n) is not None]
    inner = sorted({rewritten.tiled.parts[n].tensor for n in names} - {"x"})
    whole = {**feeds, **run_whole(program.model, feeds, inner)}
    held = run_whole(rewritten.model, feeds, names)
    for name in names:
        part = rewritten.tiled.parts[name]
        expected = whole[part.tensor].take(range(part.begin, part.end), axis=part.axis)
        np.testing.assert_allclose(held[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)
