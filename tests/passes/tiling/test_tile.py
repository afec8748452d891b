"""The pass: what it refuses, what it carries on, and that verification looks at the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest

from partc.errors import PartcError, VerificationError
from partc.ir.cost import Cost, CostTable
from partc.ir.portfolio import Portfolio
from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.passes.build.verify import Verify
from partc.passes.contract import TYPICAL_MESSAGE_COST, Context
from partc.passes.lower.split import Split
from partc.passes.tiling.ranges import tileable_groups
from partc.passes.tiling.tile import Tile
from partc.pipeline import Pipeline
from tests.passes.tiling.support import STAR, even_groups, feeds_of, ingest, planned, tiled
from tests.passes.tiling.test_ranges import CHAIN, text_model
from tests.support.oracle import run_whole
from tests.support.placements import placed, topology_of


def chain() -> Program:
    return ingest(text_model(CHAIN))


def group_of(program: Program) -> TileGroup:
    (rows,) = tileable_groups(program).along(2)
    return even_groups(rows, [1, 1])[0]


def test_without_tiles_nothing_changes() -> None:
    program = placed(chain(), {op.name: "hub" for op in chain().placed_ops})
    result = Tile().run(program, Context(STAR))
    assert not result.modified
    assert result.program is program


def test_the_pass_stands_in_a_pipeline() -> None:
    program = chain()
    given = planned(program, [group_of(program)])
    run = Pipeline.parse("tile,split,verify").run(given, STAR)
    assert run.verification is not None
    assert run.verification.max_rel_error < 1e-5
    assert {segment.host for segment in run.segments or ()} == {"hub", "s0", "s1"}
    assert run.plan is not None
    assert run.plan.tiling == ()
    assert run.tiled is not None
    assert run.tiled.groups == (group_of(program),)


def test_tiles_are_plain_ops_with_a_host_each() -> None:
    program = chain()
    rewritten = tiled(program, [group_of(program)])
    assert rewritten.plan is not None
    placement = rewritten.plan.placement
    convolutions = [op for op in rewritten.ops if op.op_type == "Conv"]
    assert len(convolutions) == 6
    for op in convolutions:
        assert placement[op.name] == op.name.split("@")[1]
    # The weights are those of the model, once.
    assert {w.name for w in rewritten.model.graph.initializer} >= {"w", "v", "u"}
    assert len([w for w in rewritten.model.graph.initializer if len(w.dims) == 4]) == 3
    assert rewritten.outputs == program.outputs
    assert rewritten.inputs == program.inputs
    assert rewritten.tiled is not None
    rows = {(op, host): span for (_, op, host), span in rewritten.tiled.rows.items()}
    first = next(op.name for op in program.ops if "a" in op.outputs)
    assert rows[first, "s0"] == (0, 16)
    assert rows[first, "s1"] == (15, 32)


def test_every_tensor_that_changes_hosts_is_in_the_plan() -> None:
    program = chain()
    rewritten = tiled(program, [group_of(program)])
    assert rewritten.plan is not None
    placement = rewritten.plan.placement
    moved = {(t.tensor, t.sender, t.receiver) for t in rewritten.plan.transfers}
    for op in rewritten.placed_ops:
        for name in op.inputs:
            producer = rewritten.producer.get(name)
            home = "hub" if producer is None else placement.get(producer.name, "")
            if home and home != placement[op.name]:
                assert (name, home, placement[op.name]) in moved
    # Rows travel, not the whole image.
    assert not [tensor for tensor, *_ in moved if tensor == "x"]


def with_costs(program: Program, **measured: Cost) -> Program:
    hosts = list(STAR.hosts)
    costs = {
        block.name: {host: Cost(1.0 + i, 0.1, 5, "measured") for i, host in enumerate(hosts)}
        for block in program.blocks or ()
    }
    known = {name: {name.split("@")[1]: cost} for name, cost in measured.items()}
    table = CostTable({**costs, **known}, dict.fromkeys(hosts, 0.0), {}, TYPICAL_MESSAGE_COST)
    return replace(program, costs=table)


def test_costs_are_scaled_by_rows_unless_the_tile_was_measured() -> None:
    program = chain()
    group = group_of(program)
    first = group.blocks[0]
    measured = Cost(0.25, 0.01, 7, "measured")
    rewritten = tiled(with_costs(program, **{f"{first}@s1": measured}), [group])
    assert rewritten.costs is not None
    estimate = rewritten.costs.of(f"{first}@s0", "s0")
    assert estimate.provenance == "estimated"
    assert estimate.median_s == pytest.approx(2.0 * 16 / 32)
    assert rewritten.costs.of(f"{first}@s1", "s1") == measured
    for block in rewritten.blocks or ():
        assert rewritten.plan is not None
        host = rewritten.plan.placement[block.ops[0]]
        assert rewritten.costs.supports(block.name, host)
    untouched = (program.blocks or ())[-1].name
    assert rewritten.costs.of(untouched, "hub").provenance == "measured"


def test_verification_compares_with_the_model_as_it_was() -> None:
    """A rewriting that is wrong must not be its own reference."""
    program = chain()
    rewritten = tiled(program, [group_of(program)])
    model = onnx.ModelProto()
    model.CopyFrom(rewritten.model)
    name = next(op.name for op in rewritten.ops if op.op_type == "Conv")
    for node in model.graph.node:
        if node.name == name:
            for attribute in node.attribute:
                if attribute.name == "pads":
                    top, left, bottom, right = attribute.ints
                    attribute.ints[:] = [bottom, left, top, right]
    broken = replace(rewritten, model=model)
    assert run_whole(model, feeds_of(program))  # it runs, and is wrong
    cut = Split().run(broken, Context(STAR)).program
    with pytest.raises(VerificationError, match=r"differs from the whole model at '.*@s0'"):
        Verify().run(cut, Context(STAR))


def test_a_portfolio_is_left_out_with_a_notice() -> None:
    program = chain()
    given = planned(program, [group_of(program)])
    portfolio = Portfolio((), 1.0, 0.0, 0.0, 0.05, 1.0, 0, 0.0, ())
    result = Tile().run(replace(given, portfolio=portfolio), Context(STAR))
    assert result.program.portfolio is None
    assert any("changing conditions" in notice for notice in result.program.notices)


def test_a_group_over_one_host_is_a_placement() -> None:
    program = chain()
    (rows,) = tileable_groups(program).along(2)
    rewritten = tiled(program, even_groups(rows, [1]))
    feeds = feeds_of(program)
    actual = run_whole(rewritten.model, feeds)
    np.testing.assert_allclose(actual["y"], run_whole(program.model, feeds)["y"], rtol=1e-5)


Change = Callable[[TileGroup], TileGroup]
REFUSED: dict[str, tuple[Change, str]] = {
    "unknown block": (lambda g: replace(g, blocks=("nope", *g.blocks)), "no block named 'nope'"),
    "unknown host": (lambda g: replace(g, hosts=("s0", "s9")), "no host named 's9'"),
    "host twice": (lambda g: replace(g, hosts=("s0", "s0")), "name a host twice"),
    "no hosts": (lambda g: replace(g, hosts=(), bounds=(0,)), "at least one server"),
    "share of zero": (lambda g: replace(g, bounds=(0, 0, 16)), "share of 0"),
    "falling bounds": (lambda g: replace(g, bounds=(0, 17, 16)), "above zero"),
    "not all rows": (lambda g: replace(g, bounds=(0, 8, 15)), "cover 0 to 15 of 16 rows"),
    "too few bounds": (lambda g: replace(g, bounds=(0, 16)), "need 3 bounds for 2 hosts"),
    "wrong exit": (lambda g: replace(g, exit="y"), "no block of the group makes 'y'"),
    "no such axis": (lambda g: replace(g, axis=7), "has no axis 7"),
    "left out a block": (lambda g: replace(g, blocks=g.blocks[1:]), "enters from outside"),
    "ends too early": (lambda g: replace(g, blocks=(*g.blocks, "last"), exit="p"), "averages over"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_groups_that_make_no_sense(name: str) -> None:
    program = chain()
    change, sentence = REFUSED[name]
    last = next(b.name for b in program.blocks or () if "p" in b.outputs)
    group = change(group_of(program))
    group = replace(group, blocks=tuple(last if b == "last" else b for b in group.blocks))
    with pytest.raises(PartcError, match=sentence) as caught:
        Tile().run(planned(program, [group]), Context(STAR))
    assert caught.value.message.count("\n") == 0


def test_more_servers_than_rows() -> None:
    program = chain()
    group = replace(
        group_of(program), hosts=("hub", "s0", "s1", "s2", "s3"), bounds=(0, 1, 2, 3, 4, 5), axis=2
    )
    small = ingest(text_model(CHAIN.replace("[N,3,32,16]", "[N,3,6,16]")))
    group = replace(group_of(small), hosts=group.hosts, bounds=group.bounds)
    with pytest.raises(PartcError, match="5 servers cannot share 3 rows"):
        Tile().run(planned(small, [group]), Context(STAR))


def test_a_block_in_two_groups() -> None:
    program = chain()
    group = group_of(program)
    other = replace(group, bounds=(0, 3, 16))
    with pytest.raises(PartcError, match="is in two groups"):
        Tile().run(planned(program, [group, other]), Context(STAR))


def test_a_host_that_cannot_run_a_block() -> None:
    program = with_costs(chain())
    group = group_of(program)
    assert program.costs is not None
    costs = {name: dict(row) for name, row in program.costs.costs.items()}
    del costs[group.blocks[0]]["s1"]
    program = replace(program, costs=replace(program.costs, costs=costs))
    with pytest.raises(PartcError, match=r"host 's1' cannot run block"):
        Tile().run(planned(program, [group]), Context(STAR))


def test_servers_that_cannot_reach_each_other() -> None:
    program = chain()
    islands = topology_of(("hub", "s0"), ("s1", "s2"), ("hub", "s1"))
    cut = islands.model_copy(update={"links": islands.links[:2]})
    with pytest.raises(PartcError, match="cannot reach each other"):
        Tile().run(planned(program, [group_of(program)]), Context(cut))
