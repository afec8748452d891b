"""What a manifest says of tiles follows from the plan, and is refused where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.bundle.manifest import Manifest
from partc.bundle.tiling import overlaps, rows_twice
from partc.errors import BundleError
from partc.ir.tiling import TileGroup
from tests.support.tiled_bundles import (
    CHANNELS,
    SIDE,
    convolutions,
    group,
    servers,
    tiled_manifest,
    two_groups,
)

Data = dict[str, Any]
ROW_BYTES = 4 * CHANNELS * SIDE


def plain() -> Data:
    data: Data = json.loads(two_groups().to_json())
    return data


def test_rows_exchanges_and_work_done_twice() -> None:
    tiling = two_groups().tiling
    assert tiling is not None
    first, second = tiling.groups
    assert [block.computed for block in first.blocks] == [
        [(0, 14), (10, 24)],
        [(0, 13), (11, 24)],
        [(0, 12), (12, 24)],
    ]
    assert [(each.sender, each.receiver, each.begin, each.end) for each in first.receives] == [
        ("camera", "left", 0, 15),
        ("camera", "right", 9, 24),
    ]
    (halo,) = second.receives
    assert (halo.of, halo.sender, halo.receiver) == ("t2", "right", "left")
    assert (halo.begin, halo.end, halo.rows) == (12, 16, SIDE)
    assert halo.bytes == tiling.halo_bytes == 4 * ROW_BYTES
    assert [(each.sender, each.receiver) for each in second.gives] == [
        ("left", "camera"),
        ("right", "camera"),
    ]
    assert tiling.done_twice == pytest.approx((4 + 2) / (4 * SIDE))
    assert {first.unit, second.unit} == {"rows"}


def test_a_manifest_with_tiles_comes_back_as_it_was() -> None:
    assert Manifest.parse(plain()) == two_groups()


def test_bundles_without_tiles_say_nothing_of_them() -> None:
    data = plain()
    del data["tiling"]
    assert Manifest.parse(data).tiling is None


def test_input_channels_are_no_work_done_twice(tmp_path: Path) -> None:
    pair = ("left", "right")
    split = TileGroup(("conv1",), "t0", "t1", pair, (0, 1, CHANNELS), axis=1, kind="input-channels")
    manifest = tiled_manifest(tmp_path / "b", convolutions(2), servers(*pair), [split])
    assert manifest.tiling is not None
    (one,) = manifest.tiling.groups
    assert one.unit == "channels"
    assert [block.computed for block in one.blocks] == [[(0, 1), (1, CHANNELS)]]
    assert manifest.tiling.done_twice == 0 == manifest.tiling.halo_bytes


def test_columns_and_three_hosts(tmp_path: Path) -> None:
    three = ("left", "middle", "right")
    tiles = group(0, 1, three, (0, 8, 16, SIDE))
    columns = TileGroup(tiles.blocks, tiles.entry, tiles.exit, three, tiles.bounds, axis=3)
    manifest = tiled_manifest(tmp_path / "b", convolutions(2), servers(*three), [columns])
    assert manifest.tiling is not None
    (one,) = manifest.tiling.groups
    assert one.unit == "columns"
    assert one.blocks[0].computed == [(0, 9), (7, 17), (15, SIDE)]


def put(value: Any, *path: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        place: Any = data["tiling"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


HOSTILE: dict[str, tuple[Callable[[Data], None], str]] = {
    "no groups": (put([], "groups"), "no group of them"),
    "no hosts": (put([], "groups", 0, "hosts"), "has no hosts"),
    "an unknown host": (put(["lef", "right"], "groups", 0, "hosts"), "Did you mean 'left'"),
    "a host twice": (put(["left", "left"], "groups", 0, "hosts"), "names a host twice"),
    "too few bounds": (put([0, 24], "groups", 0, "bounds"), "2 bounds for 2 hosts"),
    "bounds that fall": (put([0, 24, 12], "groups", 0, "bounds"), "do not rise"),
    "bounds that begin late": (put([1, 12, 24], "groups", 0, "bounds"), "do not rise from 0"),
    "bounds below zero": (put([-1, 12, 24], "groups", 0, "bounds"), "bounds"),
    "bounds without end": (put([0, 12, 2**70], "groups", 0, "bounds"), "bounds"),
    "no blocks": (put([], "groups", 0, "blocks"), "has no blocks"),
    "a block twice": (put("conv0", "groups", 1, "blocks", 0, "name"), "tiled twice"),
    "rows for one host": (
        put([[0, 24]], "groups", 0, "blocks", 0, "computed"),
        "rows for 1 of 2 hosts",
    ),
    "rows past the end": (
        put([[0, 14], [10, 25]], "groups", 0, "blocks", 0, "computed"),
        "has 24 rows, and not 10 to 25",
    ),
    "rows backwards": (
        put([[0, 14], [12, 10]], "groups", 0, "blocks", 0, "computed"),
        "not 12 to 10",
    ),
    "no rows at all": (put(0, "groups", 0, "blocks", 0, "rows"), "rows"),
    "work that is no number": (
        put(float("nan"), "groups", 0, "blocks", 0, "whole_s"),
        "whole_s",
    ),
    "a share that does not follow": (put(0.5, "done_twice"), "does not follow"),
    "bytes that do not follow": (put(7, "halo_bytes"), "bytes of halos"),
    "rows of another tensor": (
        put("image", "groups", 1, "receives", 0, "of"),
        "neither reads nor makes",
    ),
    "rows that nobody sends": (
        put("ghost", "groups", 1, "receives", 0, "tensor"),
        "no transfer of the plan",
    ),
    "other bytes": (put(1, "groups", 1, "receives", 0, "bytes"), "other bytes"),
    "sent rows past the end": (put(99, "groups", 1, "receives", 0, "end"), "not 12 to 99"),
    "an axis that is none": (put(-1, "groups", 0, "axis"), "axis"),
    "an unknown kind": (put("stripes", "groups", 0, "kind"), "kind"),
    "more than there is to say": (put(1, "groups", 0, "colour"), "colour"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_contradicts_itself_is_refused(name: str) -> None:
    change, says = HOSTILE[name]
    data = plain()
    change(data)
    with pytest.raises(BundleError, match=says) as caught:
        Manifest.parse(data)
    assert "\n" not in str(caught.value)


spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda p: (min(p), max(p))),
    max_size=6,
)


@given(spans)
def test_rows_twice_are_counted_as_by_hand(each: list[tuple[int, int]]) -> None:
    times = [sum(low <= row < high for low, high in each) for row in range(30)]
    assert rows_twice(each) == sum(max(0, count - 1) for count in times)
    twice = {row for low, high in overlaps(each) for row in range(low, high)}
    assert twice == {row for row, count in enumerate(times) if count > 1}
