"""Messages between hosts at work have a price of their own, measured once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from partc import exchange_cost
from partc.exchange_cost import measured_exchange_cost
from partc.ir.cost import CostTable, MessageCost
from partc.ir.topology import Topology
from partc.measure.store import CostStore
from partc.passes.partition.problem import placement_problem
from partc.passes.refine.forecast import message_fixed_s
from partc.passes.tiling.planning.exchanges import are_priced_here, with_exchanges
from partc.pipeline import Pipeline
from tests.passes.tiling_plans.test_plan_tiles import convolutions, costed
from tests.support.placements import ingested

FIXED_S, EXCHANGE_S, RTT_MS = 1e-3, 4e-4, 2.0
SERVERS = (("left", "right"),)


def triangle(**between_servers: Any) -> Topology:
    pairs = [("camera", "left"), ("camera", "right"), ("left", "right")]
    links = [{"between": list(p), "bandwidth_mbit_s": 100, "rtt_ms": RTT_MS} for p in pairs]
    links[-1] |= between_servers
    return Topology.parse({"hosts": {"camera": {}, "left": {}, "right": {}}, "links": links})


def costs_of(message: MessageCost) -> CostTable:
    return CostTable({}, {}, {}, message)


@pytest.mark.parametrize(
    ("between_servers", "less_s"), [({}, FIXED_S - EXCHANGE_S), ({"fixed_ms": 0.7}, 0.0)]
)
def test_only_links_between_sharing_hosts_are_priced(
    between_servers: dict[str, Any], less_s: float
) -> None:
    topology = triangle(**between_servers)
    program = Pipeline.parse("infer-shapes,group-blocks{fused=false}").run(
        ingested(convolutions()), topology
    )
    program = costed(program, topology, 1.0, 1.0)
    assert program.costs is not None
    message = MessageCost(FIXED_S, 0.0, "measured", EXCHANGE_S)
    program = replace(program, costs=replace(program.costs, message=message))
    before = placement_problem(program, topology)
    after = with_exchanges(before, program, topology, SERVERS)
    assert are_priced_here(topology, SERVERS) == bool(less_s)
    for old, new in zip(before.links, after.links, strict=True):
        expected_s = less_s if set(old.between) == {"left", "right"} else 0.0
        assert old.latency_s[0] - new.latency_s[0] == pytest.approx(expected_s)
        assert old.latency_s[1] - new.latency_s[1] == pytest.approx(expected_s)


def test_pushes_are_foretold_by_that_price() -> None:
    known = costs_of(MessageCost(FIXED_S, 0.0, "measured", EXCHANGE_S))
    half_rtt_s = RTT_MS * 0.5e-3
    ends = (triangle(), "left", "right")
    assert message_fixed_s(known, *ends, is_push=True) == half_rtt_s + EXCHANGE_S
    assert message_fixed_s(known, *ends) == half_rtt_s + FIXED_S
    unknown = costs_of(MessageCost(FIXED_S, 0.0, "measured"))
    assert message_fixed_s(unknown, *ends, is_push=True) == half_rtt_s + FIXED_S
    given = (triangle(fixed_ms=0.7), "left", "right")
    assert message_fixed_s(known, *given, is_push=True) == half_rtt_s + 0.7e-3


def test_it_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    found_s = measured_exchange_cost(1e-9, store)
    assert found_s > 0
    monkeypatch.delattr(exchange_cost, "_measured")
    assert measured_exchange_cost(1e-9, store) == found_s
    (entry,) = store.entries()
    assert entry.what.kind == "line-exchange-fixed"
