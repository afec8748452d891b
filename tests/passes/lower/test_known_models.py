"""Complete models, cut at random between their blocks: the parts give the whole model's answer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from partc.ir.program import Program
from partc.pipeline import Pipeline
from tests.support.data import PHOTOS, photos_from_minus_one_to_one
from tests.support.known_models import KNOWN, QUICK_ONES
from tests.support.oracle import Array, assert_same, run_whole
from tests.support.placements import (
    CHAIN,
    INGEST,
    STAR,
    TWO_HOSTS,
    Hosts,
    run_in_order,
    split,
)

SLOW_ONES = [name for name in KNOWN if name not in QUICK_ONES]
QUICK_OR_SLOW = [*QUICK_ONES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_ONES)]


def blocked(name: str) -> Program:
    return Pipeline.parse(INGEST).run(KNOWN[name].program(), TWO_HOSTS)


def whole_answer(name: str, feeds: dict[str, Array]) -> dict[str, Array]:
    return run_whole(KNOWN[name].source(), feeds)


def block_placements(program: Program, count: int) -> Iterator[dict[str, str]]:
    """Half prefix cuts, spread evenly over the model, and half with a host drawn per block."""
    blocks = program.blocks or ()
    draw = random.Random(0)
    for number in range(count // 2):
        cut = round((number + 1) * len(blocks) / (count // 2 + 1))
        yield {op: ("camera", "server")[i >= cut] for i, b in enumerate(blocks) for op in b.ops}
    for _ in range(count - count // 2):
        stay = draw.choice((0.2, 0.7, 0.95))
        host = "camera"
        placement: dict[str, str] = {}
        for block in blocks:
            host = host if draw.random() < stay else draw.choice(("camera", "server"))
            placement.update(dict.fromkeys(block.ops, host))
        yield placement


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_cuts_between_blocks_give_the_whole_answer(name: str) -> None:
    program = blocked(name)
    feeds = KNOWN[name].feeds(1)
    whole = whole_answer(name, feeds)
    for placement in block_placements(program, 8):
        cut = split(program, TWO_HOSTS, placement)
        held = run_in_order(cut.segments or (), feeds)
        assert_same({output: held[output] for output in whole}, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_every_single_cut_gives_the_whole_answer(name: str) -> None:
    program = blocked(name)
    feeds = KNOWN[name].feeds(1)
    whole = whole_answer(name, feeds)
    blocks = program.blocks or ()
    step = max(1, len(blocks) // 60)
    for cut_at in range(1, len(blocks), step):
        placement = {
            op: ("camera", "server")[i >= cut_at] for i, b in enumerate(blocks) for op in b.ops
        }
        held = run_in_order(split(program, TWO_HOSTS, placement).segments or (), feeds)
        assert_same({output: held[output] for output in whole}, whole)


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
def test_segments_planned_for_one_run_a_batch_of_three(name: str) -> None:
    known = KNOWN[name]
    if not known.dynamic_batch:
        pytest.skip(f"{name} has a fixed batch")
    program = blocked(name)
    feeds = known.feeds(3)
    whole = whole_answer(name, feeds)
    for placement in block_placements(program, 4):
        held = run_in_order(split(program, TWO_HOSTS, placement).segments or (), feeds)
        assert_same({output: held[output] for output in whole}, whole)


@pytest.mark.parametrize("name", ["detector", "looping", "trained silero-vad", "trained tinyvit"])
@pytest.mark.parametrize("topology", [CHAIN, STAR], ids=["chain", "star"])
def test_three_hosts_carry_out_the_calls(name: str, topology: object) -> None:
    assert topology in (CHAIN, STAR)
    three = CHAIN if topology is CHAIN else STAR
    program = blocked(name)
    feeds = KNOWN[name].feeds(1)
    whole = whole_answer(name, feeds)
    draw = random.Random(1)
    for _ in range(3):
        placement = {
            op: host
            for block in program.blocks or ()
            for host in [draw.choice(list(three.hosts))]
            for op in block.ops
        }
        cut = split(program, three, placement)
        assert_same(Hosts(cut, three).answer(feeds), whole)


def test_the_trained_classifier_names_the_same_five_classes_in_parts() -> None:
    name = "trained mobilenetv2"
    program = blocked(name)
    photos = {"input": photos_from_minus_one_to_one(list(PHOTOS), 224, keep=0.875)}
    (whole,) = whole_answer(name, photos).values()
    best = np.argsort(-whole, axis=1)[:, :5]
    assert best[:, 0].tolist() == list(PHOTOS.values())
    for placement in block_placements(program, 4):
        held = run_in_order(split(program, TWO_HOSTS, placement).segments or (), photos)
        parts = held[program.outputs[0]]
        np.testing.assert_array_equal(np.argsort(-parts, axis=1)[:, :5], best)
