"""A shared medium in the topology: what it means, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from partc.errors import TopologyError
from partc.ir.topology import Topology


def described(**bus: Any) -> dict[str, Any]:
    medium = {"hosts": ["phone", "robot", "server"], "bandwidth_mbit_s": 40, "rtt_ms": 6} | bus
    return {"hosts": {"phone": {}, "robot": {}, "server": {}}, "bus": [medium]}


def test_hosts_on_a_bus_need_no_links() -> None:
    topology = Topology.parse(described())
    assert topology.links == ()
    assert topology.bus[0].bandwidth_mbit_s == 40
    assert Topology.parse(topology.model_dump(mode="json")) == topology


def test_a_bus_is_toml() -> None:
    import tomllib

    text = """
    [hosts.phone]
    [hosts.server]
    [[bus]]
    hosts = ["phone", "server"]
    bandwidth_mbit_s = 40
    rtt_ms = 6
    serial = true
    """
    assert Topology.parse(tomllib.loads(text)).bus[0].serial


def test_all_hosts_of_a_bus_talk_to_each_other() -> None:
    topology = Topology.parse(described())
    pairs = (("phone", "robot"), ("phone", "server"), ("robot", "server"))
    assert set(topology.joined_pairs) == set(pairs)
    assert topology.are_joined("server", "phone")


def test_two_hosts_on_a_bus_are_joined_by_half_of_it() -> None:
    """A byte is put on the medium and taken from it, each at its bandwidth."""
    link = Topology.parse(described(fixed_ms=0.5)).link_between("server", "phone")
    assert link.between == ("server", "phone")
    assert link.mbit_s("server") == link.mbit_s("phone") == 20
    assert (link.rtt_ms, link.fixed_ms) == (6, 0.5)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (described(hosts=["phone", "robot"]), "host 'server' is not on the"),
        (described(hosts=["phone", "robot", "sever"]), "Did you mean 'server'"),
        (described(hosts=["phone", "robot", "server", "phone"]), "names a host twice"),
        (described(bandwidth_mbit_s=0), "greater than"),
        (described(rtt_ms=-1), "greater than or equal to 0"),
        (described(bandwith_mbit_s=1), "Did you mean 'bandwidth_mbit_s'"),
        (
            described() | {"links": [{"between": ["phone", "robot"], "bandwidth_mbit_s": 1}]},
            "not by both",
        ),
        (described() | {"bus": described()["bus"] * 2}, "at most 1"),
    ],
)
def test_a_bus_of_nonsense(data: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TopologyError, match=sentence):
        Topology.parse(data)
