"""Tiles are chosen where they pay, and the program that comes of it gives the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from partc.errors import PassError, TopologyError
from partc.ir.cost import Cost, CostTable, MessageCost
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.tiling.branches import branchings
from partc.passes.tiling.planning.branch_arcs import branch_candidates
from partc.passes.tiling.planning.hosts import groups_of_hosts, sharings
from partc.pipeline import Pipeline
from tests.passes.tiling.single_ops import draw_weights
from tests.support.nasty_models import parsed
from tests.support.placements import TWO_HOSTS, ingested

FREE = MessageCost(1e-5, 0.0, "estimated")
CONVOLUTIONS, SIDE, CHANNELS = 4, 48, 16


def convolutions(count: int = CONVOLUTIONS, *, pooled: bool = False) -> onnx.ModelProto:
    """3 x 3 convolutions on 48 x 48 pixels, one after the other; the mean of each channel."""
    draw = np.random.default_rng(3)
    nodes, weights, source, channels = [], [], "image", 3
    for number in range(count):
        values = draw.standard_normal((CHANNELS, channels, 3, 3)).astype(np.float32) * 0.1
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        made = "features" if number == count - 1 and not pooled else f"t{number}"
        nodes.append(
            helper.make_node(
                "Conv", [source, f"w{number}"], [made], f"conv{number}", pads=[1, 1, 1, 1]
            )
        )
        source, channels = made, CHANNELS
    value = helper.make_tensor_value_info
    side = 1 if pooled else SIDE
    if pooled:
        nodes.append(helper.make_node("GlobalAveragePool", [source], ["features"], "pool"))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [value("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [value("features", TensorProto.FLOAT, [1, CHANNELS, side, side])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def triangle(mbit_s: float = 10_000.0, **tiles: Any) -> Topology:
    pairs = [("camera", "left"), ("camera", "right"), ("left", "right")]
    return Topology.parse(
        {
            "hosts": {"camera": {"slowdown": 1.0}, "left": {}, "right": {}},
            "links": [
                {"between": list(pair), "bandwidth_mbit_s": mbit_s, "fixed_ms": 0.01}
                for pair in pairs
            ],
            "tiles": tiles,
        }
    )


def costed(program: Program, topology: Topology, camera_s: float, server_s: float) -> Program:
    seconds = {host: camera_s if host == "camera" else server_s for host in topology.hosts}
    rows = {}
    for block in program.blocks or ():
        share = 1e-3 if block.name.startswith("Concat") else 1.0
        rows[block.name] = {
            host: Cost(each * share, 0.0, 1, "measured") for host, each in seconds.items()
        }
    whole_s = {host: each * len(rows) for host, each in seconds.items()}
    costs = CostTable(rows, dict.fromkeys(topology.hosts, 1e-5), whole_s, FREE)
    return replace(program, costs=costs)


def planned(
    topology: Topology,
    model: onnx.ModelProto | None = None,
    server_s: float = 0.02,
    sample: Mapping[str, np.ndarray[Any, np.dtype[Any]]] | None = None,
    **options: Any,
) -> Program:
    program = ingested(model or convolutions(), topology, sample=sample)
    program = costed(program, topology, camera_s=0.5, server_s=server_s)
    passes = Pipeline.parse("partition,plan-tiles{rounds=1,budget_s=0.1,pause_ms=0.0}")
    passes = passes.with_option("plan-tiles", **options)
    return passes.run(program, topology, context=Context(topology, message_cost=FREE))


@pytest.mark.usefixtures("unmeasured")
def test_slow_servers_with_fast_links_share_the_rows() -> None:
    topology = triangle()
    program = planned(topology)
    assert program.plan is not None and program.plan.tiling
    assert {host for group in program.plan.tiling for host in group.hosts} == {"left", "right"}
    by_name = {s.name: s.predicted_s for s in program.plan.strategies}
    assert by_name["optimal"] < 0.7 * by_name["vertical"]
    assert program.plan.verdict is not None
    assert "pays" in program.plan.verdict.sentence
    assert program.plan.certificate.status == "optimal"


@pytest.mark.usefixtures("unmeasured")
def test_a_slow_link_is_told_from_which_speed_on_tiles_would_pay() -> None:
    program = planned(triangle(mbit_s=5.0), convolutions(pooled=True))
    assert program.plan is not None and not program.plan.tiling
    assert program.plan.verdict is not None
    assert "does not pay" in program.plan.verdict.sentence
    assert "Mbit/s between the servers on" in program.plan.verdict.sentence


@pytest.mark.usefixtures("unmeasured")
def test_a_server_twice_as_fast_gets_about_twice_the_rows() -> None:
    data = triangle().model_dump(exclude_none=True)
    data["hosts"]["right"]["slowdown"] = 2.0
    topology = Topology.parse(data)
    program = ingested(convolutions(), topology)
    program = costed(program, topology, camera_s=0.5, server_s=0.02)
    assert program.costs is not None
    rows = {
        block: {h: c.scaled(2.0) if h == "right" else c for h, c in row.items()}
        for block, row in program.costs.costs.items()
    }
    whole_s = {**program.costs.whole_s, "right": 2 * program.costs.whole_s["right"]}
    program = replace(program, costs=replace(program.costs, costs=rows, whole_s=whole_s))
    passes = Pipeline.parse("partition,plan-tiles{rounds=1}")
    program = passes.run(program, topology, context=Context(topology, message_cost=FREE))
    assert program.plan is not None and program.plan.tiling
    for group in program.plan.tiling:
        counts = dict(zip(group.hosts, np.diff(group.bounds), strict=True))
        assert 1.5 <= counts["left"] / counts["right"] <= 2.6


def branches(stages: int = 2) -> onnx.ModelProto:
    """Two equal convolutions beside each other and a Concat, stage after stage; three rows, of
    which two hosts cannot share more evenly than two to one."""
    text, weights, source, channels = "", "", "image", 3
    for stage in range(stages):
        for side in "ab":
            name = f"{side}{stage}"
            text += f"c{name} = Conv<pads=[1,1,1,1]>({source}, w{name}) {name} = Tanh(c{name}) "
            weights += f"float[4,{channels},3,3] w{name}, "
        source, channels = f"j{stage}", 8
        text += f"{source} = Concat<axis=1>(a{stage}, b{stage}) "
    weights = weights.removesuffix(", ")
    graph = f"g (float[1,3,3,8] image) => (float[1,8,3,8] {source}) <{weights}> {{ {text} }}"
    return draw_weights(parsed(graph, {}, opset=17).model)


@pytest.mark.usefixtures("unmeasured")
def test_branches_are_shared_where_rows_are_too_few() -> None:
    topology = triangle()
    program = planned(topology, branches())
    assert program.plan is not None
    assert [group.kind for group in program.plan.tiling] == ["branches", "branches"]
    for group in program.plan.tiling:
        assert set(group.owners) == {"left", "right"}
    by_name = {s.name: s.predicted_s for s in program.plan.strategies}
    assert by_name["optimal"] < 0.7 * by_name["vertical"]
    done = Pipeline.parse("tile,split,verify").run(
        program, topology, context=Context(topology, message_cost=FREE)
    )
    assert done.verification is not None
    assert done.verification.max_rel_error < 1e-5
    # Each host sends its branch to the other, and nothing goes by the camera between the stages.
    assert done.plan is not None
    ways = [(t.sender, t.receiver) for t in done.plan.transfers]
    assert ways.count(("left", "right")) >= 1 and ways.count(("right", "left")) >= 1
    assert sum("camera" in way for way in ways) <= 4


@pytest.mark.usefixtures("unmeasured")
def test_shares_that_are_given_are_of_rows() -> None:
    program = planned(triangle(shares={"left": 1, "right": 1}), branches())
    assert program.plan is not None
    assert "branches" not in {group.kind for group in program.plan.tiling}


def test_branches_are_given_out_by_how_fast_hosts_are() -> None:
    """Three equal branches, and a host that is twice as fast: it makes two of them."""
    text = "".join(f"c{n} = Conv(image, w) {n} = Tanh(c{n}) " for n in "abc")
    text += "y = Concat<axis=1>(a, b, c)"
    graph = f"g (float[1,2,4,4] image) => (float[1,6,4,4] y) <float[2,2,1,1] w> {{ {text} }}"
    model = draw_weights(parsed(graph, {}, opset=17).model)
    topology = triangle()
    program = costed(ingested(model, topology), topology, 0.5, 0.02)
    assert program.costs is not None
    rows = {
        block: {h: c.scaled(2.0) if h == "right" else c for h, c in row.items()}
        for block, row in program.costs.costs.items()
    }
    program = replace(program, costs=replace(program.costs, costs=rows))
    (found,) = branch_candidates(program, branchings(program), (("left", "right"),))
    (stage,) = found.stages
    assert sorted(stage.owners) == ["left", "left", "right"]
    assert stage.exit_bytes == pytest.approx((4 * 16 * 4, 2 * 16 * 4))
    assert stage.seconds == pytest.approx((0.04, 0.04), rel=0.01)


def test_a_host_that_cannot_run_a_branch_shares_none() -> None:
    topology = triangle()
    program = costed(ingested(branches(), topology), topology, 0.5, 0.02)
    assert program.costs is not None
    block = next(block.name for block in program.blocks or ())
    rows = {
        name: {h: c for h, c in row.items() if h != "right" or name != block}
        for name, row in program.costs.costs.items()
    }
    program = replace(program, costs=replace(program.costs, costs=rows))
    (found,) = branch_candidates(program, branchings(program), (("left", "right"),))
    assert len(found.stages) == 1


def test_measured_tiles_end_in_the_same_answers() -> None:
    topology = triangle(use="always")
    program = planned(topology)
    assert program.plan is not None and program.plan.tiling
    done = Pipeline.parse("tile,split,verify").run(
        program, topology, context=Context(topology, message_cost=FREE)
    )
    assert done.verification is not None
    assert done.verification.max_rel_error < 1e-5
    assert {s.host for s in done.segments or ()} >= {"left", "right"}


def test_tiles_may_be_switched_off_and_asked_for() -> None:
    for program in (planned(triangle(use="never")), planned(triangle(), use="never")):
        assert program.plan is not None and not program.plan.tiling
    with pytest.raises(PassError, match="two servers that are joined"):
        planned(TWO_HOSTS, use="always")


def test_what_closes_a_group_is_named() -> None:
    graph = "g (float[4,4] x) => (float y) {y = Det(x)}"
    model = parsed(graph, {}).model
    with pytest.raises(PassError, match="cannot be tiled"):
        planned(triangle(use="always"), model)


def test_hosts_that_cannot_reach_each_other_are_refused() -> None:
    data = triangle(hosts=["left", "right"]).model_dump(exclude_none=True)
    data["links"] = data["links"][:2]
    with pytest.raises(TopologyError, match="cannot reach each other"):
        planned(Topology.parse(data))


def test_a_share_of_zero_is_refused() -> None:
    with pytest.raises(TopologyError, match="a share of 0 for host 'left' is no share"):
        triangle(shares={"left": 0, "right": 1})


def test_nobody_shares_alone() -> None:
    with pytest.raises(TopologyError, match="it takes two hosts to share"):
        triangle(hosts=["left"])


def test_columns_are_tiled_where_the_height_is_open() -> None:
    """What is measured has the sizes that the user planned with."""
    model = convolutions()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[2].dim_param = "height"
    program = planned(
        triangle(use="always"), model, sample={"image": np.zeros((1, 3, SIDE, SIDE), np.float32)}
    )
    assert program.plan is not None and program.plan.tiling
    assert {group.axis for group in program.plan.tiling} == {3}


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(TopologyError, match="Did you mean 'left'"):
        triangle(hosts=["lef", "right"])


def test_candidates_are_hosts_that_are_all_joined() -> None:
    assert groups_of_hosts(triangle(), "camera") == (("left", "right"),)
    everyone = triangle(hosts=["camera", "left", "right"])
    assert groups_of_hosts(everyone, "camera")[0] == ("camera", "left", "right")
    assert len(groups_of_hosts(everyone, "camera")) == 4


def test_given_shares_are_the_only_ones() -> None:
    topology = triangle(shares={"left": 3, "right": 1})
    found = sharings(topology, (("left", "right"),), {"left": 1.0, "right": 1.0}, 64)
    assert [each.shares for each in found] == [(0.75, 0.25)]
