"""Random convolutional graphs: tiles give the answer of the whole."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partc.ir.tiling import TileGroup, shares_to_bounds
from partc.passes.tiling.ranges import tileable_groups
from tests.passes.tiling.random_images import TiledImage, tiled_images
from tests.passes.tiling.support import SERVERS, assert_equal_to_whole, feeds_of, ingest, tiled


def tiled_at_once(image: TiledImage) -> None:
    program = ingest(image.model)
    group = TileGroup(
        blocks=tuple(block.name for block in program.blocks or ()),
        entry="x",
        exit=image.output,
        hosts=SERVERS[: len(image.bounds) - 1],
        bounds=image.bounds,
        axis=image.axis,
        margins=image.margins,
    )
    rewritten = tiled(program, [group])
    assert_equal_to_whole(image.model, rewritten, feeds_of(program))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(tiled_images())
def test_tiles_equal_the_whole(image: TiledImage) -> None:
    tiled_at_once(image)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(tiled_images(), st.randoms(use_true_random=False))
def test_groups_over_other_hosts_one_after_the_other(image: TiledImage, draw: Random) -> None:
    """Rows change hands between groups that share all, some or none of their hosts."""
    program = ingest(image.model)
    groups: list[TileGroup] = []
    for tileable in tileable_groups(program).along(image.axis):
        first = 0
        for last in range(1, len(tileable.cuts)):
            if last + 1 < len(tileable.cuts) and draw.random() < 0.5:
                continue
            rows = tileable.rows[last]
            count = draw.randint(1, min(len(SERVERS), rows))
            hosts = draw.sample(SERVERS, count)
            bounds = shares_to_bounds(rows, [draw.uniform(0.1, 1) for _ in hosts])
            if draw.random() < 0.8:  # the others stay on the hub
                group = tileable.group(first, last, hosts, bounds)
                groups.append(replace(group, margins=image.margins))
            first = last
    if groups:
        rewritten = tiled(program, groups)
        assert_equal_to_whole(image.model, rewritten, feeds_of(program))


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(tiled_images())
def test_many_tiles_equal_the_whole(image: TiledImage) -> None:
    tiled_at_once(image)
