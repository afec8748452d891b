"""Branches that hosts share: the same answers, and only what is common is done twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx
import pytest

from examples.models import MODELS
from partc.errors import PartcError
from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.passes.tiling.branches import Branching, branchings
from partc.pipeline import Pipeline
from tests.passes.tiling.single_ops import draw_weights
from tests.passes.tiling.support import (
    SERVERS,
    STAR,
    assert_equal_to_whole,
    feeds_of,
    ingest,
    planned,
    tiled,
)
from tests.support.nasty_models import parsed

# Two stages of branches; both branches of the second read c.
TWO_STAGES = """g (float[N,3,9,8] x) => (float[N,5,9,8] y)
    <float[4,3,1,1] u, float[2,3,3,3] v, float[2,2,3,1] w, float[5,7,1,1] p, float[3,5,1,1] q,
     float[2,5,3,3] r>
    {
        a = Conv(x, u) b = Relu(a)
        d = Conv<pads=[1,1,1,1]>(x, v) e = Relu(d) f = Conv<pads=[1,0,1,0]>(e, w)
        m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) n = Slice(m, zero, one, axis)
        j = Concat<axis=1>(b, f, n)
        c = Conv(j, p) g1 = Relu(c) h = Conv(g1, q) k = Conv<pads=[1,1,1,1]>(g1, r)
        y = Concat<axis=-3>(h, k)
    }"""


def two_stages() -> onnx.ModelProto:
    text = TWO_STAGES.replace("float[2,5,3,3] r>", "float[2,5,3,3] r, int64[1] zero = {0}, "
                              "int64[1] one = {1}, int64[1] axis = {1}>")  # fmt: skip
    return draw_weights(parsed(text, {}, opset=17).model)


def shared(found: Branching, owners: Sequence[str]) -> TileGroup:
    return TileGroup(
        blocks=found.blocks,
        entry=found.entry,
        exit=found.exit,
        hosts=tuple(dict.fromkeys(owners)),
        bounds=found.bounds,
        axis=found.axis,
        kind="branches",
        owners=tuple(owners),
    )


def stages(program: Program) -> dict[str, Branching]:
    return {each.exit: each for each in branchings(program)}


def test_what_is_made_of_branches_is_found() -> None:
    program = ingest(two_stages())
    found = stages(program)
    assert set(found) == {"j", "y"}
    assert found["j"].bounds == (0, 4, 6, 7)
    assert found["j"].axis == 1
    assert [len(branch) for branch in found["j"].branches] == [2, 3, 2]
    assert found["y"].axis == 1
    # From g1 on: what is before it is no branch's.
    assert (found["y"].entry, found["y"].bounds) == ("g1", (0, 3, 5))


@pytest.mark.parametrize("owners", [("s0", "s1", "s0"), ("s0", "s1", "s2"), ("s1", "s0", "s0")])
def test_answers_are_the_same(owners: tuple[str, ...]) -> None:
    model = two_stages()
    program = ingest(model)
    found = stages(program)
    groups = [shared(found["j"], owners), shared(found["y"], ("s0", "s1"))]
    for chosen in (groups[:1], groups[1:], groups):
        rewritten = tiled(program, chosen)
        assert_equal_to_whole(model, rewritten, feeds_of(program))


def test_nothing_runs_twice_and_nothing_is_sliced() -> None:
    program = ingest(two_stages())
    rewritten = tiled(program, [shared(stages(program)["j"], ("s0", "s1", "s0"))])
    assert rewritten.plan is not None
    convolutions = [op.name for op in rewritten.ops if op.op_type == "Conv"]
    assert len(convolutions) == len([op for op in program.ops if op.op_type == "Conv"])
    assert len([op for op in rewritten.ops if op.op_type == "Slice"]) == 1  # the model's own
    placement = rewritten.plan.placement
    assert {op.split("@")[1] for op in placement if "@" in op and "[" not in op} == {"s0", "s1"}


def test_what_two_branches_have_in_common_is_done_by_both() -> None:
    text = """g (float[1,3,8,8] x) => (float[1,5,8,8] y)
        <float[4,3,1,1] u, float[2,4,3,3] v, float[3,4,1,1] w>
        { a = Conv(x, u) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, v) d = Conv(b, w)
          t = Transpose<perm=[0,1,3,2]>(x) s = ReduceSum<keepdims=1>(t)
          e = Add(c, s) y = Concat<axis=1>(e, d) }"""
    model = draw_weights(parsed(text, {}, opset=17).model)
    program = ingest(model)
    (found,) = branchings(program)
    assert found.entry == "x"
    rewritten = tiled(program, [shared(found, ("s1", "s0"))])
    assert_equal_to_whole(model, rewritten, feeds_of(program))
    names = {op.name for op in rewritten.ops}
    first = next(op.name for op in program.ops if "a" in op.outputs)
    assert {f"{first}@s0", f"{first}@s1"} <= names
    assert rewritten.tiled is not None
    assert rewritten.tiled.rows[0, first, "s0"] == rewritten.tiled.rows[0, first, "s1"] == (0, 1)


def test_rows_before_and_after_branches() -> None:
    """Tiles of rows hand over to branches, and branches to tiles of rows."""
    text = """g (float[1,3,12,8] x) => (float[1,4,12,8] y)
        <float[4,3,3,3] u, float[2,4,3,3] v, float[3,4,1,1] w, float[4,5,3,3] p>
        { a = Conv<pads=[1,1,1,1]>(x, u) b = Relu(a)
          c = Conv<pads=[1,1,1,1]>(b, v) d = Conv(b, w) j = Concat<axis=1>(c, d)
          k = Conv<pads=[1,1,1,1]>(j, p) y = Relu(k) }"""
    model = draw_weights(parsed(text, {}, opset=17).model)
    program = ingest(model)
    (found,) = branchings(program)
    block_of = {tensor: block.name for block in program.blocks or () for tensor in block.outputs}
    rows = [
        TileGroup((block_of[exit],), entry, exit, ("s0", "s1"), (0, 5, 12))
        for entry, exit in (("x", "b"), ("j", "y"))
    ]
    groups = [rows[0], shared(found, ("s1", "s0")), rows[1]]
    rewritten = tiled(program, groups)
    assert_equal_to_whole(model, rewritten, feeds_of(program))


def test_verification_compares_every_branch() -> None:
    program = ingest(two_stages())
    groups = [shared(each, SERVERS[: len(each.branches)]) for each in stages(program).values()]
    run = Pipeline.parse("tile,split,verify").run(planned(program, groups), STAR)
    assert run.verification is not None
    assert run.verification.max_rel_error < 1e-5
    assert run.tiled is not None
    assert {"b@s0", "f@s1", "n@s2", "h@s0", "k@s1", "e@s1"} <= set(run.tiled.parts)


def largest(found: Sequence[Branching]) -> list[Branching]:
    """Those that are in no other one."""
    return [
        each for each in found if not any(set(each.blocks) < set(other.blocks) for other in found)
    ]


def test_every_stage_of_a_model_of_branches() -> None:
    model = MODELS["inceptionv4"]()
    program = ingest(model)
    found = largest(list(branchings(program)))
    assert [len(each.branches) for each in found] == [2] * 3 + [4] * 4 + [3] + [4] * 7 + [3] + (
        [4] * 3
    )
    groups = []
    for number, each in enumerate(found):
        owners = [SERVERS[(branch + number) % 2] for branch in range(len(each.branches))]
        groups.append(shared(each, owners))
    rewritten = tiled(program, groups)
    assert_equal_to_whole(model, rewritten, feeds_of(program))


BROKEN = {
    "another cut": ({"bounds": (0, 3, 6, 7)}, r"joins along axis 1 at \[0, 4, 6, 7\]"),
    "another axis": ({"axis": 2}, "and not along axis 2"),
    "too few owners": ({"owners": ("s0", "s1")}, "are 3 branches, and 2 owners"),
    "a host without": ({"owners": ("s0", "s0", "s0")}, "each host needs a branch"),
    "an owner more": ({"owners": ("s0", "s1", "s3")}, "each branch a host"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_groups(name: str) -> None:
    program = ingest(two_stages())
    changes, message = BROKEN[name]
    group = replace(shared(stages(program)["j"], ("s0", "s1", "s0")), **changes)  # type: ignore[arg-type]
    with pytest.raises(PartcError, match=message):
        tiled(program, [group])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ a = Relu(x) y = Neg(a) }", "and not by a Concat of branches"),
        ("{ y = Concat<axis=1>(x, x) }", "also reads 'x', which no branch makes"),
        ("{ a = Relu(x) y = Concat<axis=1>(a) }", "has only one input"),
        ("{ a = Relu(x) y = Concat<axis=1>(a, w) }", "also reads 'w', which no branch makes"),
    ],
)
def test_what_is_not_made_of_branches(text: str, message: str) -> None:
    model = parsed(f"g (float[1,2,4] x) => (float[1,C,D] y) <float[1,2,4] w> {text}", {}, opset=17)
    program = ingest(draw_weights(model.model))
    assert not list(branchings(program))
    blocks = tuple(block.name for block in program.blocks or ())
    group = TileGroup(blocks, "x", "y", ("s0", "s1"), (0, 2, 4), 1, "branches", owners=("s0", "s1"))
    with pytest.raises(PartcError, match=message):
        tiled(program, [group])
