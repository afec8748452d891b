"""Addresses: what is one, and what is wrong with what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc import Topology
from partc.errors import TopologyError
from partc.ir.address import checked_address, is_loopback, split_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8500", ("127.0.0.1", 8500)),
        ("camera.lan:1", ("camera.lan", 1)),
        ("host_1:65535", ("host_1", 65535)),
        ("[::1]:8500", ("::1", 8500)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[host]:1", "a b:1",
     "http://host:1", "host/path:1", "300.1.1.1:80", "1.2.3:80", "host:٣", "-a:1", "a..b:1",
     "\x1b[2J:80"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        split_address(text)


def test_nothing_is_called_at_port_0() -> None:
    with pytest.raises(ValueError, match="port 0"):
        checked_address("127.0.0.1:0")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("127.8.8.8:1", True),
     ("0.0.0.0:1", False), ("camera.lan:1", False), ("localhost.evil.com:1", False)],
)  # fmt: skip
def test_loopback(text: str, answer: bool) -> None:
    assert is_loopback(text) is answer


@given(st.text())
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError as error:
        assert "address" in str(error)
    else:
        assert host and 0 <= port <= 65535


@pytest.mark.parametrize("key", ["address", "agent"])
def test_a_topology_with_an_address_that_is_none(key: str) -> None:
    with pytest.raises(TopologyError, match=r"hosts\.server.*HOST:PORT"):
        Topology.parse({"hosts": {"server": {key: "nowhere"}}})


def test_an_agent_serves_unless_another_address_is_given() -> None:
    hosts = Topology.parse(
        {"hosts": {"a": {"agent": "a:1"}, "b": {"agent": "b:1", "address": "b:2"}, "c": {}},
         "links": [{"between": ["a", "b"], "bandwidth_mbit_s": 1},
                   {"between": ["b", "c"], "bandwidth_mbit_s": 1}]}
    ).hosts  # fmt: skip
    assert [host.served_at for host in hosts.values()] == ["a:1", "b:2", None]
