"""Tiles in the report: the picture, its numbers, the journey, and what is said on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from rich.console import Console

from partc.bundle.manifest import Manifest
from partc.bundle.tiling import TilingEntry, done_twice
from partc.report import charts, facts, render_report, tables, tile_rows
from partc.report.facts import facts_of
from partc.report.names import fitting
from partc.report.schedule import Move, Run, schedule
from tests.report import sample
from tests.report.test_page import Page
from tests.support.tiled_bundles import (
    SIDE,
    convolutions,
    group,
    servers,
    tiled_manifest,
    two_groups,
)

NASTY = "<script>alert(1)</script>\"'{{ 7 * 7 }}\u202e$x_"
THREE = ("s1", "s2", "s3")


def many_layers() -> Manifest:
    """As `two_groups`, its first group said to have 400 blocks."""
    data = two_groups().model_dump(mode="json", by_alias=True)
    tiling = data["tiling"]
    block = tiling["groups"][0]["blocks"][0]
    tiling["groups"][0]["blocks"] = [
        {
            **block,
            "name": f"stage{i // 9}.layer{i}",
            "computed": [[0, 12 + i % 9], [12 - i % 7, 24]],
        }
        for i in range(400)
    ]
    return Manifest.parse(follows(data))


def follows(data: dict[str, Any]) -> dict[str, Any]:
    """The data with the share that follows from its rows."""
    groups = TilingEntry.model_validate(data["tiling"]).groups
    data["tiling"]["done_twice"] = done_twice(groups)
    return data


@cache
def hostile() -> Manifest:
    with TemporaryDirectory() as folder:
        return tiled_manifest(
            Path(folder) / "b",
            convolutions(2, NASTY),
            servers(*THREE),
            [group(0, 1, THREE, (0, 8, 16, SIDE), NASTY)],
        )


SAMPLES: dict[str, Callable[[], Manifest]] = {
    "two-groups": two_groups,
    "many-layers": many_layers,
    "hostile": hostile,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_is_well_formed_and_needs_nothing_from_outside(name: str) -> None:
    text = render_report(SAMPLES[name]())
    page = Page(text)
    assert "figure-rows" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not any(attribute.startswith("on") for _, attribute, _ in page.attributes)
    assert "http:" not in text and "https:" not in text
    text.encode("utf-8")


def test_a_plan_without_tiles_has_no_such_section() -> None:
    manifest, reads = sample.chain()
    assert "figure-rows" not in Page(render_report(manifest, reads=reads)).ids
    assert tile_rows.tiling_sentence(facts_of(manifest)) is None


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    text = render_report(hostile())
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_the_picture_has_every_layer_the_overlap_and_what_is_sent(width: int) -> None:
    svg = str(tile_rows.tile_rows(facts_of(two_groups()), width, "any"))
    for part in ("conv0", "conv3", "right → left", "camera → left", "left → camera"):
        assert part in svg
    assert svg.count('class="twice"') == 2
    assert "conv0, 24 rows: left 0 to 14, right 10 to 24, 4 twice" in svg
    assert "+17 %" in svg


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_drawn_beyond_the_edge(name: str, width: int) -> None:
    svg = str(tile_rows.tile_rows(facts_of(SAMPLES[name]()), width, "any"))
    boxes = re.findall(
        r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([\d.]+)"', svg
    )
    height = float(re.findall(r'viewBox="0 0 \d+ (\d+)"', svg)[0])
    assert boxes
    for x, y, wide, high in (tuple(map(float, box)) for box in boxes):
        assert x >= 0 and wide >= 0 and x + wide <= width
        assert y >= 0 and y + high <= height


def test_messages_do_not_lie_on_each_other() -> None:
    manifest = hostile()
    svg = str(tile_rows.tile_rows(facts_of(manifest), charts.NARROW, "any"))
    pills = [
        tuple(map(float, found))
        for found in re.findall(
            r'class="moved"[^>]*/><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg
        )
    ]
    assert len(pills) == len(tile_rows.sent_rows(manifest.tiling or pytest.fail("no tiles")))
    for i, (x, y, width) in enumerate(pills):
        for other_x, other_y, other_width in pills[:i]:
            assert y != other_y or x >= other_x + other_width or other_x >= x + width


def test_layers_with_the_same_rows_share_a_line() -> None:
    data = two_groups().model_dump(mode="json", by_alias=True)
    (block,) = data["tiling"]["groups"][1]["blocks"]
    data["tiling"]["groups"][1]["blocks"] = [{**block, "name": f"relu{i}"} for i in range(200)]
    found = facts_of(Manifest.parse(follows(data)))
    svg = str(tile_rows.tile_rows(found, charts.WIDE, "any"))
    assert "(200)" in svg
    assert svg.count('class="label"') == 4


def test_a_long_picture_scrolls() -> None:
    assert not tile_rows.is_tall(two_groups().tiling or pytest.fail("no tiles"))
    assert tile_rows.is_tall(many_layers().tiling or pytest.fail("no tiles"))
    assert (
        '<div class="scroll tall" role="region" tabindex="0" aria-label="Rows of each layer">'
        in (render_report(many_layers()))
    )


def test_the_sentence_has_hosts_share_and_halos() -> None:
    assert tile_rows.tiling_sentence(facts_of(two_groups())) == (
        "left and right compute 4 blocks side by side, in 2 groups of tiles: 6.2 % of that work "
        "is done twice, and tiles send each other 1.50 KiB of halos per request."
    )
    assert "no halos are sent" in (tile_rows.tiling_sentence(facts_of(hostile())) or "")


@pytest.mark.parametrize("show", [tables.print_compilation, tables.print_inspection])
def test_the_terminal_says_the_same(show: Callable[[Console, Manifest], None]) -> None:
    text = io.StringIO()
    show(Console(file=text, width=200, highlight=False), two_groups())
    assert "6.2 % of that work is done twice" in text.getvalue()
    assert "makes leaving" not in text.getvalue()


def test_no_break_even_is_claimed_beside_a_verdict_on_tiles() -> None:
    found = facts_of(two_groups())
    assert found.manifest.verdict is not None and found.manifest.verdict.choice == "tiles"
    assert facts.break_even_sentence(found) is None
    assert "makes leaving" not in render_report(found.manifest)


def verdict_of(manifest: Manifest, **changes: Any) -> Manifest:
    assert manifest.verdict is not None
    return manifest.model_copy(update={"verdict": manifest.verdict.model_copy(update=changes)})


def test_break_even_is_denied_only_where_the_plan_stays() -> None:
    stays, _ = sample.device_only()
    never = facts_of(verdict_of(stays, break_even_mbit_s=None))
    assert "No bandwidth that was examined" in (facts.break_even_sentence(never) or "")
    leaves, _ = sample.chain()
    assert facts.break_even_sentence(facts_of(verdict_of(leaves, break_even_mbit_s=None))) is None


def test_servers_work_side_by_side_in_the_journey() -> None:
    events = schedule(facts_of(two_groups()))
    runs = {event.segment.id: event for event in events if isinstance(event, Run)}
    first = [event for event in runs.values() if event.segment.host in ("left", "right")]
    left = next(event for event in first if event.segment.host == "left")
    right = next(event for event in first if event.segment.host == "right")
    assert left.start_s < right.end_s and right.start_s < left.end_s
    assert sorted(event.start_s for event in events) == [event.start_s for event in events]


@pytest.mark.parametrize("name", SAMPLES)
def test_everything_of_the_plan_happens_and_nothing_before_its_tensors_are_there(name: str) -> None:
    found = facts_of(SAMPLES[name]())
    plan = found.manifest.plan
    events = schedule(found)
    assert sorted(e.segment.id for e in events if isinstance(e, Run)) == sorted(
        segment.id for segment in plan.segments
    )
    moved = [cut.transfer for e in events if isinstance(e, Move) for cut in e.cuts]
    assert len(moved) == len(plan.transfers)
    there = {(spec.name, plan.root) for spec in found.manifest.model.inputs}
    for event in events:
        if isinstance(event, Run):
            assert all((t, event.segment.host) in there for t in event.segment.inputs)
            there |= {(t, event.segment.host) for t in event.segment.outputs}
        else:
            tensors = {cut.transfer.tensor for cut in event.cuts}
            assert all((t, event.sender) in there for t in tensors)
            there |= {(t, event.receiver) for t in tensors}


@pytest.mark.parametrize("make", [sample.chain, sample.device_only, sample.branching])
def test_a_vertical_plan_is_told_in_the_order_of_its_segments(
    make: Callable[[], tuple[Manifest, sample.Reads]],
) -> None:
    manifest, _ = make()
    runs = [e.segment.id for e in schedule(facts_of(manifest)) if isinstance(e, Run)]
    assert runs == [segment.id for segment in manifest.plan.segments]


def test_hosts_side_by_side_have_lines_of_their_own() -> None:
    strategy = sample.chain()[0].strategies[-1]
    assert not charts.is_side_by_side(strategy)
    beside = strategy.model_copy(update={"predicted_s": strategy.predicted_s * 0.6})
    assert charts.is_side_by_side(beside)


def test_a_tile_is_not_said_to_be_impossible_elsewhere() -> None:
    assert "cannot run it" not in render_report(two_groups())


def test_rows_stay_whole_in_the_names_of_the_placed_graph() -> None:
    assert re.search(r">\d+ \d+\]@", render_report(two_groups())) is None


def test_measured_plans_without_tiles_are_not_taken_for_the_chosen_one() -> None:
    measured = {"blocks": {"camera": 4}, "predicted_s": 0.1, "measured_s": 0.1, "segments": 1}
    data = two_groups().model_dump(mode="json", by_alias=True)
    data["refinement"] = {"rounds": [measured], "outcome": "settled", "spent_s": 1, "drift": 1}
    said = facts.refinement_sentence(facts_of(Manifest.parse(data)))
    assert said is not None and "1 plan without tiles" in said
    assert "The chosen plan was measured" not in said


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("features.3.conv", 40, "features.3.conv"),
        ("features.3.conv", 8, "conv"),
        ("Slice_image[0:25]@camera", 16, "Slice_im…@camera"),
        ("ends.with/", 8, "ends…th/"),
        ("/" * 1_000_000, 8, "////…///"),
    ],
)
def test_what_fits_of_a_name(name: str, limit: int, expected: str) -> None:
    assert fitting(name, limit) == expected


def test_the_proof_of_planned_costs_is_not_taken_for_one_of_deployed_tiles() -> None:
    proven = two_groups().certificate
    slower = proven.model_copy(update={"predicted_s": 2 * proven.bound_s})
    said = facts.proof_sentence(facts_of(two_groups().model_copy(update={"certificate": slower})))
    assert "for the costs that it was planned with" in said
    assert "no other placement" not in said
