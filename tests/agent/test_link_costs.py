"""What messages cost on links of nodes: as given, as the nodes measure it, or as it is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from partc import Topology
from partc.agent.meter import AgentMeter, message_cost
from partc.agent.wire.client import AgentClient
from partc.ir.cost import MessageCost
from partc.link_costs import link_costs
from partc.measure.store import CostStore
from partc.passes.contract import TYPICAL_MESSAGE_COST, no_progress
from partc.targets.meter import Meter
from tests.agent.support import AgentProcess

HERE = MessageCost(fixed_s=0.123, s_per_byte=1e-12, provenance="measured")


@pytest.fixture(scope="module")
def meters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Meter]]:
    """Two nodes; a client of each."""
    with (
        AgentProcess(tmp_path_factory.mktemp("camera")) as camera,
        AgentProcess(tmp_path_factory.mktemp("gateway")) as gateway,
        AgentClient(camera.address, None, "camera") as one,
        AgentClient(gateway.address, None, "gateway") as other,
    ):
        yield {
            "camera": AgentMeter(one, "onnxruntime"),
            "gateway": AgentMeter(other, "onnxruntime"),
        }


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partc.message_cost.measured_message_cost", lambda *_: HERE)


def described(meters: dict[str, Meter], **fixed: float) -> Topology:
    """A chain of camera, gateway and server, of which the last has no agent."""
    addresses = {name: m.address for name, m in meters.items() if isinstance(m, AgentMeter)}
    hosts = {name: {"agent": addresses[name]} for name in ("camera", "gateway")}
    link = {"bandwidth_mbit_s": 100}
    pairs = (["camera", "gateway"], ["gateway", "server"])
    links = [{"between": pair, **link, **fixed} for pair in pairs]
    return Topology.parse({"hosts": {**hosts, "server": {}}, "links": links})


def test_what_the_topology_says_counts(meters: dict[str, Meter]) -> None:
    topology = described(meters, fixed_ms=0.5)
    found = link_costs(topology, meters, None, no_progress)
    assert found.topology == topology and found.notices == ()
    assert found.cost.s_per_byte > 0 and found.cost.fixed_s == 0
    assert link_costs(topology, {}, None, no_progress).cost == TYPICAL_MESSAGE_COST


def test_two_nodes_measure_the_link_between_them(meters: dict[str, Meter], tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    found = link_costs(described(meters), meters, store, no_progress)
    measured, unknown = found.topology.links
    assert measured.fixed_ms is not None and 0 <= measured.fixed_ms < 1000
    assert unknown.fixed_ms is None
    assert len(found.notices) == 1
    assert "on the link of gateway and server was measured on this machine" in found.notices[0]
    assert found.cost.fixed_s == HERE.fixed_s
    assert found.cost.s_per_byte >= HERE.s_per_byte
    assert found.cost.s_per_byte == pytest.approx(message_cost(meters).s_per_byte, rel=20)
    again = link_costs(described(meters), meters, store, no_progress)
    assert again.topology == found.topology, "it is in the store"


def test_a_link_that_cannot_be_measured_is_said(
    meters: dict[str, Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    from partc.errors import TargetError

    def refuse(*_: object) -> None:
        raise TargetError("the nodes do not know each other")

    monkeypatch.setattr(AgentMeter, "link_to", refuse)
    found = link_costs(described(meters), meters, None, no_progress)
    assert all(link.fixed_ms is None for link in found.topology.links)
    assert any("do not know each other" in notice for notice in found.notices)
    assert sum("on this machine" in notice for notice in found.notices) == 2


def test_hosts_without_agents_are_this_machine(meters: dict[str, Meter]) -> None:
    found = link_costs(described(meters), {}, None, no_progress)
    assert found.cost == HERE
