"""What is wrong with a topology is said in one sentence that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

import partc
from partc.errors import TopologyError, UsageError
from partc.ir.topology import Topology
from tests.support.nasty_models import parsed
from tests.support.placements import QUICK, topology_of

GOOD = """
[hosts.camera]
target = "onnxruntime-cpu"
slowdown = 4.0
[hosts.server]
threads = 2
[[links]]
between = ["camera", "server"]
bandwidth_mbit_s = 20
rtt_ms = 10
[io]
inputs = "camera"
"""


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        Topology.load(path)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


def test_a_good_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(GOOD)
    topology = Topology.load(tmp_path / "t.toml")
    assert list(topology.hosts) == ["camera", "server"]
    assert topology.link_between("server", "camera").mbit_s("server") == 20
    assert topology.output_home("y") == "camera"
    assert Topology.parse(topology.model_dump(mode="json")) == topology


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads = 2", "thread = 2", "Did you mean 'threads'"),
        ("rtt_ms = 10", "rtt = 10", "Did you mean 'rtt_ms'"),
        ("[io]\ninputs", "[oi]\ninputs", "no key named 'oi'. Did you mean 'io'"),
        ('["camera", "server"]', '["camera", "servr"]', "Did you mean 'server'"),
        ('["camera", "server"]', '["camera"]', "links.0.between"),
        ('["camera", "server"]', '["camera", "camera"]', "joins two different hosts"),
        ('inputs = "camera"', 'inputs = "lens"', "no host named 'lens'"),
        ('inputs = "camera"', 'inputs = { x = "lens" }', "no host named 'lens'"),
        ("slowdown = 4.0", "slowdown = 0.5", "hosts.camera.slowdown"),
        ("slowdown = 4.0", "slowdown = nan", "hosts.camera.slowdown"),
        ("slowdown = 4.0", "slowdown = inf", "hosts.camera.slowdown"),
        ("slowdown = 4.0", 'slowdown = "much"', "hosts.camera.slowdown"),
        ("slowdown = 4.0", "memory_mib = -1", "hosts.camera.memory_mib"),
        ("slowdown = 4.0", "power_active_w = -1", "hosts.camera.power_active_w"),
        ("threads = 2", "threads = 0", "hosts.server.threads"),
        ("threads = 2", "threads = 1.5", "hosts.server.threads"),
        ("bandwidth_mbit_s = 20", "bandwidth_mbit_s = -20", "links.0.bandwidth_mbit_s"),
        ("bandwidth_mbit_s = 20", "bandwidth_mbit_s = 0", "links.0.bandwidth_mbit_s"),
        ("bandwidth_mbit_s = 20", "bandwidth_mbit_s = nan", "links.0.bandwidth_mbit_s"),
        ("bandwidth_mbit_s = 20", "uplink_mbit_s = 2", "both uplink_mbit_s and downlink_mbit_s"),
        ("bandwidth_mbit_s = 20", "", "give either bandwidth_mbit_s or both"),
        ("rtt_ms = 10", "rtt_ms = -1", "links.0.rtt_ms"),
        ("[hosts.server]", '[hosts."a b"]', "host name 'a b' is not usable"),
        ("[hosts.server]", '[hosts."../x"]', "host name '../x' is not usable"),
        ("[hosts.server]", "[hosts.server", "is not valid TOML"),
        ("[hosts.camera]", "[hosts.camera]\nslowdown = 1", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    assert says in told(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "hosts"),
        ("[hosts]", "at least one host"),
        ("[hosts.a]\n[hosts.b]", "no link joins host 'b' to 'a'; add a [[links]] entry"),
        (GOOD + GOOD[GOOD.index("[[links]]") : GOOD.index("[io]")], "are linked twice"),
        ("hosts = 3", "hosts"),
        ("links = 3\n[hosts.a]", "links"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_a_whole_file_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    assert says in told(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="does not exist"):
        Topology.load(tmp_path / "no.toml")
    with pytest.raises(TopologyError, match="is a folder"):
        Topology.load(tmp_path)
    (tmp_path / "t.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TopologyError, match="is not valid TOML"):
        Topology.load(tmp_path / "t.toml")


@pytest.mark.parametrize(
    ("io", "says"),
    [
        ({"inputs": {"imgae": "server"}}, "Did you mean 'image'"),
        ({"outputs": {"scors": "server"}}, "Did you mean 'scores'"),
    ],
)
def test_a_tensor_in_io_that_the_model_lacks(
    tmp_path: Path, io: dict[str, object], says: str
) -> None:
    model = parsed("g (float[1,8] image) => (float[1,8] scores) {scores = Exp(image)}", {}).model
    topology = topology_of(("camera", "server"), io=io)
    with pytest.raises(UsageError, match="\\[io\\]") as caught:
        partc.compile(model, topology, output=tmp_path / "b", pipeline=QUICK)
    assert says in caught.value.message


def test_a_request_is_told_when_its_inputs_arise_elsewhere(tmp_path: Path) -> None:
    graph = "g (float[1,8] a, float[1,8] b) => (float[1,8] y) {y = Add(a, b)}"
    topology = topology_of(("camera", "server"), io={"inputs": {"b": "server"}})
    bundle = partc.compile(parsed(graph, {}).model, topology, output=tmp_path / "b", pipeline=QUICK)
    assert any("input 'b' arises on server" in notice for notice in bundle.manifest.notices)
