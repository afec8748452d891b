"""From which round trip or server speed on another host would pay, against arithmetic."""

from __future__ import annotations

import pytest

from partc.ir.topology import Topology
from partc.optimizer import Problem
from partc.passes.partition.would_pay import longest_round_trip_ms, slowest_server_speed


def problem(device_s: float, server_s: float, rtt_ms: float) -> tuple[Problem, Topology]:
    """One op; sending its input takes 1 ms, sending its answer nothing."""
    data = {
        "hosts": [{"name": "camera"}, {"name": "server"}],
        "links": [
            {
                "between": ["camera", "server"],
                "seconds_per_byte": [1e-6, 1e-6],
                "latency_s": [rtt_ms / 2000, rtt_ms / 2000],
            }
        ],
        "ops": [
            {
                "name": "op",
                "inputs": ["x"],
                "outputs": ["y"],
                "cost_s": {"camera": device_s, "server": server_s},
            }
        ],
        "tensors": [{"name": "x", "size_bytes": 1000}, {"name": "y", "size_bytes": 0}],
        "inputs": {"x": "camera"},
        "outputs": {"y": "camera"},
    }
    link = {"between": ["camera", "server"], "bandwidth_mbit_s": 8, "rtt_ms": rtt_ms}
    hosts: dict[str, dict[str, object]] = {"camera": {}, "server": {}}
    return Problem.from_dict(data), Topology.parse({"hosts": hosts, "links": [link]})


def test_the_round_trip_that_the_saved_time_pays_for() -> None:
    # 10 ms here against 2 ms there and 1 ms on the way: 7 ms are left for the round trip.
    assert longest_round_trip_ms(*problem(0.010, 0.002, rtt_ms=20)) == pytest.approx(7)


def test_no_round_trip_pays_where_the_server_saves_nothing() -> None:
    assert longest_round_trip_ms(*problem(0.010, 0.0095, rtt_ms=20)) is None


def test_the_speed_at_which_a_server_pays() -> None:
    # 10 ms here; 1 ms and 4 ms on the way leave 5 ms, so 20 ms must become 5.
    given, _ = problem(0.010, 0.020, rtt_ms=4)
    assert slowest_server_speed(given, "camera") == pytest.approx(4)


def test_no_speed_pays_where_the_way_alone_takes_longer() -> None:
    given, _ = problem(0.010, 0.020, rtt_ms=20)
    assert slowest_server_speed(given, "camera") is None
