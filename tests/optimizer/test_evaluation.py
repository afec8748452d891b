"""The evaluator against cases computed by hand, and a sentence for every broken constraint."""

from __future__ import annotations

from typing import Any

import pytest

from partc.errors import UsageError
from partc.optimizer import Problem, evaluate, simulate


def diamond(**changes: Any) -> Problem:
    """x -> a -> (b, c) -> d; camera and server."""
    data: dict[str, Any] = {
        "hosts": [
            {"name": "camera", "power_active_w": 4.0, "power_tx_w": 2.0, "power_idle_w": 1.0},
            {"name": "server"},
        ],
        "links": [
            {
                "between": ["camera", "server"],
                "seconds_per_byte": [0.1, 0.01],
                "latency_s": [1.0, 0.5],
            }
        ],
        "ops": [
            _op("a", ["x"], "ta", 2, 1, ["w"]),
            _op("b", ["ta"], "tb", 4, 2, ["w"]),
            _op("c", ["ta"], "tc", 6, 3, ["v"]),
            _op("d", ["tb", "tc"], "td", 1, 1, []),
        ],
        "tensors": [
            {"name": "x", "size_bytes": 100},
            {"name": "ta", "size_bytes": 20},
            {"name": "tb", "size_bytes": 10},
            {"name": "tc", "size_bytes": 10},
            {"name": "td", "size_bytes": 1},
        ],
        "weights": [{"name": "w", "size_bytes": 7}, {"name": "v", "size_bytes": 3}],
        "inputs": {"x": "camera"},
        "outputs": {"td": "camera"},
    }
    constraints = changes.pop("constraints", {})
    return Problem.from_dict(data | changes | {"constraints": constraints})


def _op(
    name: str, inputs: list[str], output: str, camera_s: float, server_s: float, weights: list[str]
) -> dict[str, Any]:
    return {
        "name": name,
        "inputs": inputs,
        "outputs": [output],
        "cost_s": {"camera": camera_s, "server": server_s},
        "weights": weights,
    }


SPLIT = {"a": "camera", "b": "server", "c": "server", "d": "server"}


def test_latency_loads_energy_and_memory_by_hand() -> None:
    result = evaluate(diamond(), SPLIT)
    # a: 2; ta once: 20 * 0.1 + 1 = 3, although b and c read it; b, c, d: 2 + 3 + 1; td: 0.51
    assert result.latency_s == pytest.approx(2 + 3 + 6 + 0.51)
    assert [(t.tensor, t.source, t.destination) for t in result.transfers] == [
        ("ta", "camera", "server"),
        ("td", "server", "camera"),
    ]
    assert result.loads == pytest.approx(
        {"camera": 2, "server": 6, "camera->server": 3, "server->camera": 0.51}
    )
    assert result.bottleneck_s == pytest.approx(6)
    # 4 W for 2 s, 2 W for 3 s of sending, nothing for receiving, 1 W for the 6 s between
    assert result.energy_j["camera"] == pytest.approx(8 + 6 + 6)
    assert result.memory_bytes == {"camera": 7, "server": 10}
    assert result.violations == ()


def test_weights_count_once_for_each_host_and_activations_where_asked() -> None:
    result = evaluate(diamond(), dict.fromkeys("abcd", "camera"))
    assert result.memory_bytes == {"camera": 10, "server": 0}
    counted = evaluate(diamond(constraints={"activations": True}), dict.fromkeys("abcd", "camera"))
    # While a runs: x and ta, 120; while c runs: ta, tb, tc, 40.
    assert counted.memory_bytes["camera"] == 10 + 120


def test_codec_by_hand() -> None:
    problem = diamond(
        codecs=[
            {
                "name": "half",
                "ratio": 0.5,
                "loss": 0.1,
                "encode_s_per_byte": 0.02,
                "decode_s_per_byte": 0.01,
            }
        ]
    )
    result = evaluate(problem, SPLIT, {("ta", "camera", "server"): "half"})
    transfer = result.transfers[0]
    assert transfer.bytes == 10
    assert transfer.seconds == pytest.approx(10 * 0.1 + 1 + 20 * 0.03)
    assert result.loss == pytest.approx(0.1)
    assert result.loads["camera"] == pytest.approx(2 + 0.4)
    assert result.loads["server"] == pytest.approx(6 + 0.2)


def test_a_tensor_goes_through_the_middle_of_a_chain_once() -> None:
    data = diamond().to_dict()
    data["hosts"].append({"name": "cloud"})
    data["links"].append({"between": ["server", "cloud"], "seconds_per_byte": [0.2, 0.2]})
    for op in data["ops"]:
        op["cost_s"]["cloud"] = 0.5
    placement = {"a": "camera", "b": "server", "c": "cloud", "d": "cloud"}
    result = evaluate(Problem.from_dict(data), placement)
    hops = [(t.tensor, t.source, t.destination) for t in result.transfers]
    assert hops.count(("ta", "camera", "server")) == 1
    assert ("ta", "server", "cloud") in hops
    assert ("td", "cloud", "server") in hops and ("td", "server", "camera") in hops


def test_bus_sender_pays_once_and_each_receiver_once() -> None:
    data = diamond().to_dict()
    del data["links"]
    data["hosts"].append({"name": "third"})
    for host, price in zip(data["hosts"], (0.1, 0.01, 0.02), strict=True):
        host["bus_seconds_per_byte"] = price
    for op in data["ops"]:
        op["cost_s"]["third"] = 1.0
    data["bus"] = {"hosts": ["camera", "server", "third"], "serial": True}
    placement = {"a": "camera", "b": "server", "c": "third", "d": "third"}
    result = evaluate(Problem.from_dict(data), placement)
    # ta: put by camera 2, taken by server 0.2 and third 0.4; tb: 0.1 + 0.2; td: 0.02 + 0.1
    assert result.loads == pytest.approx(
        {"camera": 2 + 2 + 0.1, "server": 2 + 0.2 + 0.1, "third": 2 + 0.4 + 0.2 + 0.02}
    )
    assert result.latency_s == pytest.approx(sum(result.loads.values()))
    data["bus"]["serial"] = False
    apart = evaluate(Problem.from_dict(data), placement)
    assert apart.loads["camera"] == pytest.approx(2)
    assert apart.loads["camera:bus"] == pytest.approx(2.1)


ALL_ON_SERVER = dict.fromkeys("abcd", "server")
BACK_AND_FORTH = {"a": "server", "b": "camera", "c": "camera", "d": "server"}


@pytest.mark.parametrize(
    ("constraints", "placement", "sentence"),
    [
        ({"monotone": True}, BACK_AND_FORTH, "must be monotone, but tensor 'ta' goes back"),
        ({"contiguous": True}, BACK_AND_FORTH, "enters host 'server' 2 times; the plan must be"),
        ({"max_segments": {"server": 1}}, BACK_AND_FORTH, "2 times; max_segments allows 1"),
        ({"pinned": {"a": "camera"}}, ALL_ON_SERVER, "Op 'a' is pinned to host 'camera'"),
        ({"forbidden": {"d": ["server"]}}, ALL_ON_SERVER, "Op 'd' is forbidden on host 'server'"),
        ({"together": [["a", "b"]]}, SPLIT, "Ops 'a', 'b' must share a host"),
        ({"keep_local": ["x"]}, ALL_ON_SERVER, "Tensor 'x' must stay on its host"),
        ({"energy_j": {"camera": 19.9}}, SPLIT, "Host 'camera' uses 20 J but may use 19.9 J"),
        ({"deadline_s": 11.0}, SPLIT, "The latency is 11.51 s but the deadline is 11 s"),
        ({"period_s": 5.0}, SPLIT, "'server' is busy for 6 s of each request"),
    ],
)
def test_every_broken_constraint_has_its_sentence(
    constraints: dict[str, Any], placement: dict[str, str], sentence: str
) -> None:
    violations = evaluate(diamond(constraints=constraints), placement).violations
    assert len(violations) == 1
    assert sentence in violations[0]
    assert evaluate(diamond(), placement).violations == ()


def test_memory_loss_and_unsupported_ops_have_their_sentences() -> None:
    data = diamond().to_dict()
    data["hosts"][1]["memory_bytes"] = 9
    (sentence,) = evaluate(Problem.from_dict(data), SPLIT).violations
    assert sentence == "Host 'server' needs 10 bytes but has 9."
    codecs = [{"name": "half", "ratio": 0.5, "loss": 0.1}]
    lossy = diamond(codecs=codecs, constraints={"loss_budget": 0.05})
    (sentence,) = evaluate(lossy, SPLIT, {("ta", "camera", "server"): "half"}).violations
    assert sentence == "The codecs lose 0.1 but the budget is 0.05."
    data = diamond().to_dict()
    del data["ops"][0]["cost_s"]["camera"]
    result = evaluate(Problem.from_dict(data), SPLIT)
    assert result.violations == ("Op 'a' cannot run on host 'camera'.",)
    assert result.objective == float("inf")
    data = diamond(codecs=codecs).to_dict()
    data["tensors"][1]["codecs"] = {"half": None}
    problem = Problem.from_dict(data)
    (sentence,) = evaluate(problem, SPLIT, {("ta", "camera", "server"): "half"}).violations
    assert sentence == "Codec 'half' is not allowed for tensor 'ta'."


@pytest.mark.parametrize(
    ("placement", "sentence"),
    [
        ({"a": "camera"}, "no host for op 'b'"),
        ({**SPLIT, "e": "camera"}, "no op named 'e'"),
        ({**SPLIT, "a": "camra"}, "Did you mean 'camera'"),
    ],
)
def test_a_wrong_placement_is_a_usage_error(placement: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        evaluate(diamond(), placement)


def test_simulation_by_hand() -> None:
    placement = {"a": "camera", "b": "camera", "c": "server", "d": "server"}
    schedule = simulate(diamond(), placement)
    # a ends at 2; ta arrives at 5, c ends at 8; b ends at 6, tb arrives at 8 (after ta on the
    # link); d ends at 9; td arrives at 9.51.
    assert schedule.latency_s == pytest.approx(9.51)
    assert evaluate(diamond(), placement).latency_s == pytest.approx(2 + 4 + 3 + 2 + 3 + 1 + 0.51)


def shared_cell(*, serial: bool, shared: bool = True) -> Problem:
    """Two independent ops on two servers, each fed over one medium."""
    data: dict[str, Any] = {
        "objective": "throughput",
        "hosts": [{"name": name, "bus_seconds_per_byte": 1.0} for name in ("phone", "s1", "s2")],
        "bus": {"hosts": ["phone", "s1", "s2"], "serial": serial, "shared": shared},
        "ops": [
            {"name": "a", "inputs": ["x"], "outputs": ["t"], "cost_s": {"s1": 5.0}},
            {"name": "b", "inputs": ["y"], "outputs": ["u"], "cost_s": {"s2": 5.0}},
        ],
        "tensors": [{"name": name, "size_bytes": 2} for name in ("x", "y", "t", "u")],
        "inputs": {"x": "phone", "y": "phone"},
        "outputs": {"t": "s1", "u": "s2"},
    }
    return Problem.from_dict(data)


@pytest.mark.parametrize("serial", [True, False])
def test_a_shared_medium_is_a_load_and_a_queue(serial: bool) -> None:
    placement = {"a": "s1", "b": "s2"}
    problem = shared_cell(serial=serial)
    result = evaluate(problem, placement)
    assert result.loads["shared bus"] == pytest.approx(8)
    assert result.objective == pytest.approx(8)
    # x is put until 2; then y, which was ready first, until 4; x is taken until 6, y until 8.
    schedule = simulate(problem, placement)
    assert schedule.latency_s == pytest.approx(13)
    alone = simulate(shared_cell(serial=serial, shared=False), placement)
    assert alone.latency_s == pytest.approx(11)
    assert "shared bus" not in evaluate(shared_cell(serial=serial, shared=False), placement).loads


def test_a_host_cannot_have_the_name_of_the_medium() -> None:
    with pytest.raises(UsageError, match="'shared bus'"):
        Problem.from_dict(
            {
                "hosts": [{"name": "shared bus", "bus_seconds_per_byte": 1.0}],
                "bus": {"hosts": ["shared bus"], "shared": True},
                "ops": [],
            }
        )


@pytest.mark.parametrize("on_a_bus", [False, True])
def test_a_codec_takes_its_own_time_on_each_host(on_a_bus: bool) -> None:
    """Encoding is the sender's work, decoding the receiver's."""
    hosts: list[dict[str, Any]] = [
        {"name": "camera", "codec_slowdown": 2.0,
         "codec_factors": {"zip": {"encode": 3.0, "decode": 100.0}}},
        {"name": "server", "codec_factors": {"zip": {"encode": 100.0, "decode": 0.5}}},
    ]  # fmt: skip
    data: dict[str, Any] = {
        "hosts": hosts,
        "ops": [{"name": "op", "inputs": ["x"], "outputs": ["y"], "cost_s": {"server": 0.0}}],
        "tensors": [{"name": "x", "size_bytes": 10}, {"name": "y", "size_bytes": 0}],
        "inputs": {"x": "camera"},
        "outputs": {"y": "server"},
        "codecs": [
            {"name": "zip", "ratio": 0.5, "encode_s_per_byte": 0.1, "decode_s_per_byte": 0.2}
        ],
    }
    if on_a_bus:
        data["bus"] = {"hosts": ["camera", "server"]}
        for host in hosts:
            host["bus_seconds_per_byte"] = 0.0
    else:
        data["links"] = [{"between": ["camera", "server"], "seconds_per_byte": [0.0, 0.0]}]
    problem = Problem.from_dict(data)
    found = evaluate(problem, {"op": "server"}, {("x", "camera", "server"): "zip"})
    (moved,) = found.transfers
    assert moved.encode_s == pytest.approx(10 * 0.1 * 2 * 3)
    assert moved.decode_s == pytest.approx(10 * 0.2 * 0.5)
