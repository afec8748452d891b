"""Where a program can be tiled, what closes groups, and what tiles compute and exchange."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.models import MODELS
from partc.errors import PassError, UsageError
from partc.ir.program import Program
from partc.ir.tiling import shares_to_bounds
from partc.passes.ingest.read_model import read_model
from partc.passes.tiling.ranges import TileableRange, tileable_groups
from partc.passes.tiling.work import RangeWork
from partc.pipeline import Pipeline
from tests.passes.tiling.random_images import TiledImage, tiled_images
from tests.passes.tiling.single_ops import draw_weights
from tests.passes.tiling.support import ingest
from tests.support.nasty_models import parsed
from tests.support.placements import INGEST, TWO_HOSTS

CHAIN = """g (float[N,3,32,16] x) => (float[N,4] y)
    <float[4,3,3,3] w, float[4,4,3,3] v, float[4,4,1,1] u> {
        a = Conv<pads=[1,1,1,1]>(x, w)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(b, v)
        d = Conv(c, u)
        e = Add(c, d)
        p = GlobalAveragePool(e)
        y = Flatten(p) }"""


def text_model(text: str) -> onnx.ModelProto:
    return draw_weights(parsed(text, {}, opset=18).model)


def test_cut_tensors_and_what_closes() -> None:
    found = tileable_groups(ingest(text_model(CHAIN)))
    (rows,) = found.along(2)
    assert rows.cuts[0] == "x"
    assert rows.cuts[-1] == "e"
    assert "d" not in rows.cuts  # c is still needed beside it
    assert rows.rows[0] == 32
    assert rows.rows[-1] == 16
    reasons = [each.why for each in tileable_groups(ingest(text_model(CHAIN)), [2]).closed]
    assert reasons == []  # from p on there is one row only


def test_a_global_pool_in_the_middle_closes_the_group() -> None:
    text = CHAIN.replace("y = Flatten(p)", "y = Mul(e, p)").replace(
        "(float[N,4] y)", "(float[N,4,16,8] y)"
    )
    found = tileable_groups(ingest(text_model(text)))
    (rows,) = found.along(2)
    assert rows.cuts[-1] == "e"
    (why,) = [each.why for each in found.closed if each.axis == 2]
    assert "(GlobalAveragePool) averages over all rows of a channel" in why


def test_an_open_height_is_refused() -> None:
    text = CHAIN.replace("[N,3,32,16]", "[N,3,H,16]")
    program = ingest_with(text_model(text), (1, 3, 32, 16))
    found = tileable_groups(program)
    assert not found.along(2)
    why = next(each.why for each in found.closed if each.axis == 2)
    assert "is open (H)" in why or "is open (?)" in why
    assert "fixed number of rows" in why
    assert found.along(3)


def ingest_with(model: onnx.ModelProto, shape: tuple[int, ...]) -> Program:
    program = read_model(model, bindings={"x": shape})
    return Pipeline.parse(INGEST).run(program, TWO_HOSTS)


def test_a_program_without_blocks_is_refused() -> None:
    with pytest.raises(PassError, match="group-blocks"):
        tileable_groups(read_model(text_model(CHAIN)))


def test_attention_closes_and_what_follows_it_is_tiled() -> None:
    found = tileable_groups(ingest(MODELS["transformer"]()))
    positions = [each for each in found.along(1) if each.rows == (64,) * len(each.rows)]
    assert len(positions) >= 12
    whys = [each.why for each in found.closed if each.axis is None]
    assert any("also reads '/mask/Where_output_0', which is made before" in why for why in whys)


def test_ranges_of_one_axis_share_no_block() -> None:
    for name in ("detector", "transformer", "mobilenetv2"):
        found = tileable_groups(ingest(MODELS[name]()))
        for axis in {each.axes[-1] for each in found.ranges}:
            blocks = [block for each in found.along(axis) for block in each.blocks]
            assert len(blocks) == len(set(blocks))


@pytest.mark.parametrize(
    ("rows", "shares", "bounds"),
    [
        (10, [1, 1], (0, 5, 10)),
        (9, [2, 1], (0, 6, 9)),
        (7, [1, 1, 1], (0, 3, 5, 7)),
        (3, [100, 1, 1], (0, 1, 2, 3)),
        (2, [0.001, 5], (0, 1, 2)),
        (100, [1], (0, 100)),
    ],
)
def test_shares(rows: int, shares: list[float], bounds: tuple[int, ...]) -> None:
    assert shares_to_bounds(rows, shares) == bounds


@given(st.integers(1, 50), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6))
def test_every_share_has_a_row(rows: int, shares: list[float]) -> None:
    if len(shares) > rows:
        with pytest.raises(UsageError, match="cannot share"):
            shares_to_bounds(rows, shares)
        return
    bounds = shares_to_bounds(rows, shares)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == rows
    assert len(sizes) == len(shares)
    assert (sizes >= 1).all()


@pytest.mark.parametrize("share", [0, -1, float("nan"), float("inf")])
def test_a_share_of_nothing(share: float) -> None:
    with pytest.raises(UsageError, match="above zero"):
        shares_to_bounds(10, [1, share])


def brute_force(
    tileable: TileableRange, first: int, last: int, begin: int, end: int
) -> tuple[dict[str, float], tuple[int, int]]:
    """Share of each block, and rows of the entry, stage by stage with plain numbers."""
    shares: dict[str, float] = {}
    for position in reversed(range(first, last)):
        stage = tileable.stages[position]
        demand = stage.demand(np.array(begin), np.array(end))
        for block in tileable.stage_blocks[position]:
            shares[block] = max(
                (int(demand.ops[op][1]) - int(demand.ops[op][0]))
                / stage.op_by_name[op].geometry.rows
                for op in tileable.block_ops[block]
            )
        begin, end = int(demand.entry[0]), int(demand.entry[1])
    return shares, (begin, end)


def compare_with_brute_force(tileable: TileableRange) -> None:
    work = RangeWork(tileable)
    last = len(tileable.cuts) - 1
    rows = tileable.rows[last]
    hosts = min(3, rows)
    options = [[1.0] * hosts, [3.0, *[1.0] * (hosts - 1)], [*[1.0] * (hosts - 1), 5.0]]
    bounds = np.array([shares_to_bounds(rows, shares) for shares in options])
    found = work.ending_in(last, bounds)
    costs = {block: [float(i + 1), 2.0, 0.5][:hosts] for i, block in enumerate(found.blocks)}
    seconds = found.seconds(costs)
    twice = found.done_twice({block: costs[block][0] for block in found.blocks})
    for s, option in enumerate(bounds.tolist()):
        for first in range(last):
            total, done = 0.0, 0.0
            for k in range(hosts):
                shares, entry = brute_force(tileable, first, last, option[k], option[k + 1])
                assert (found.begin[first, s, k], found.end[first, s, k]) == entry
                expected = sum(share * costs[block][k] for block, share in shares.items())
                assert seconds[first, s, k] == pytest.approx(expected)
                done += sum(share * costs[block][0] for block, share in shares.items())
                total = sum(costs[block][0] for block in shares)
            assert twice[first, s] == pytest.approx(done / total - 1)


@pytest.mark.parametrize("name", ["mobilenetv2", "detector"])
def test_arrays_equal_plain_numbers(name: str) -> None:
    for tileable in tileable_groups(ingest(MODELS[name]())).along(2):
        compare_with_brute_force(tileable)


@settings(max_examples=25, deadline=None)
@given(tiled_images())
def test_arrays_equal_plain_numbers_on_random_graphs(image: TiledImage) -> None:
    for tileable in tileable_groups(ingest(image.model)).ranges:
        compare_with_brute_force(tileable)


def test_halo_bytes() -> None:
    (tileable,) = tileable_groups(ingest(text_model(CHAIN))).along(2)
    work = RangeWork(tileable)
    last = len(tileable.cuts) - 1
    found = work.ending_in(last, [(0, 8, 16)])
    cut = tileable.cuts.index("b")
    # A 3 x 3 window of stride 2 and pad 1: row 8 of the exit begins at row 15 of b.
    assert found.begin[cut, 0].tolist() == [0, 15]
    assert found.end[cut, 0].tolist() == [16, 32]
    row_bytes = 4 * 16 * 4
    exchanged = work.exchange_bytes(cut, found.begin[cut], found.end[cut], [(0, 16, 32)])
    assert exchanged[0].tolist() == [[0, row_bytes], [0, 0]]
    uneven = work.exchange_bytes(cut, found.begin[cut], found.end[cut], [(0, 10, 32)])
    assert uneven[0].tolist() == [[0, 0], [6 * row_bytes, 0]]
    scattered = work.scatter_bytes(cut, found.begin[cut], found.end[cut])
    assert scattered[0].tolist() == [16 * row_bytes, 17 * row_bytes]
