"""Every constraint has its effect, and every one that cannot hold has its sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

import partc
from examples.models import MODELS
from partc.errors import InfeasibleError, TopologyError, UsageError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.partition.partition import Partition
from partc.pipeline import Pipeline
from tests.support.narrowing import OPS, Seconds, narrowing, solved
from tests.support.placements import topology_of

FAST_SERVER = {"camera": 0.01, "server": 0.0001}
"""Seconds of each block: left alone, the whole model runs on the server."""

CHEAP_HEAD: Seconds = {"camera": 0.001, "server": dict.fromkeys(OPS[:6], 0.0001)}
"""The server cannot run the head."""

SLOW_HEAD: Seconds = {
    "camera": 0.0001,
    "server": {op: 0.5 if op.startswith("/head") else 0.0001 for op in OPS},
}


def two_hosts(hosts: Mapping[str, Any] | None = None, **constraints: Any) -> Topology:
    topology = topology_of(("camera", "server"), constraints=constraints)
    data = topology.model_dump(mode="json")
    for name, changes in (hosts or {}).items():
        data["hosts"][name].update(changes)
    return Topology.parse(data)


def placement(topology: Topology, seconds: Seconds = FAST_SERVER) -> dict[str, str]:
    program = solved(narrowing(topology, seconds), topology)
    assert program.plan is not None
    return dict(program.plan.placement)


def on(host: str, topology: Topology, seconds: Seconds = FAST_SERVER) -> set[str]:
    return {op for op, where in placement(topology, seconds).items() if where == host}


def refused(topology: Topology, seconds: Seconds = FAST_SERVER) -> str:
    with pytest.raises((InfeasibleError, TopologyError)) as caught:
        placement(topology, seconds)
    return str(caught.value)


def test_without_constraints_everything_runs_on_the_server() -> None:
    assert on("server", two_hosts()) == set(OPS)


@pytest.mark.parametrize(
    ("pattern", "ops"),
    [
        ("/head/Gemm", {"/head/Gemm"}),
        ("/head/*", {"/head/Pool", "/head/Flatten", "/head/Gemm", "/head/Softmax"}),
        ("type:Relu", {"/stem/Relu", "/body[0]/Relu", "/neck/Relu"}),
        ("/body[0]/Conv", {"/body[0]/Conv"}),  # a name with brackets is a name, not a glob
        ("/body[[]0]/*", {"/body[0]/Conv", "/body[0]/Relu"}),
    ],
)
def test_pinned_by_name_glob_and_type(pattern: str, ops: set[str]) -> None:
    assert ops <= on("camera", two_hosts(pin={"camera": [pattern]}))
    assert not ops & on("server", two_hosts(forbid={"server": [pattern]}))


def test_together() -> None:
    pinned = {"camera": ["/stem/Conv"], "server": ["/head/Softmax"]}
    apart = placement(two_hosts(pin=pinned))
    assert apart["/neck/Conv"] == "server"
    together = placement(two_hosts(pin=pinned, together=[["/stem/Conv", "/neck/*"]]))
    assert together["/neck/Conv"] == together["/neck/Relu"] == together["/stem/Conv"] == "camera"


def test_a_tensor_that_may_not_leave() -> None:
    assert on("camera", two_hosts(keep_local=["image"])) >= {"/stem/Conv"}
    program = solved(
        narrowing(kept := two_hosts(keep_local=["image", "/stem/*"]), FAST_SERVER), kept
    )
    assert program.plan is not None
    assert {t.tensor for t in program.plan.transfers}.isdisjoint(
        {"image", "/stem/Conv_out", "/stem/Relu_out"}
    )
    assert set(program.plan.placement.values()) == {"camera", "server"}


def test_private_blocks_keep_what_they_read() -> None:
    """Pinning alone would still let another reader of the same tensor have it elsewhere."""
    for count in (1, 2, 3):
        topology = two_hosts(private_blocks=count)
        program = solved(narrowing(topology, FAST_SERVER), topology)
        assert program.plan is not None
        assert {op for op in OPS if program.plan.placement[op] == "camera"} >= set(OPS[:count])
        problem = program.plan.problem["constraints"]
        assert isinstance(problem, dict)
        assert problem["keep_local"] == ["image", *(f"{op}_out" for op in OPS[: count - 1])]


def test_a_private_block_may_read_what_arises_elsewhere() -> None:
    """The first block's own input is at home; the input of a later one need not be."""
    base = two_hosts(private_blocks=1).model_dump(mode="json")
    base["io"] = {"inputs": "camera", "outputs": "server"}
    assert "/stem/Conv" in on("camera", Topology.parse(base))


def test_monotone() -> None:
    """With the middle on the server, free direction comes back to the camera and monotone not."""
    pins = {"camera": ["/stem/Conv"], "server": ["/body[0]/Conv"]}
    assert "/head/Pool" in on("camera", two_hosts(pin=pins), SLOW_HEAD)
    assert "/head/Pool" in on("server", two_hosts(pin=pins, monotone=True), SLOW_HEAD)


def test_contiguous_and_most_segments() -> None:
    pins = {"camera": ["/stem/Conv"], "server": ["/body[0]/Conv"]}
    free = on("camera", two_hosts(pin=pins), SLOW_HEAD)
    assert {"/stem/Conv", "/head/Pool"} <= free
    assert "/head/Pool" not in on("camera", two_hosts(pin=pins, contiguous=True), SLOW_HEAD)
    limited = two_hosts(pin=pins, max_segments={"camera": 1})
    assert "/head/Pool" not in on("camera", limited, SLOW_HEAD)


def test_memory() -> None:
    """Three kernels of 864 to 9216 bytes and a matrix of 640: the server takes what fits."""
    weights = {"/stem/Conv": 864, "/body[0]/Conv": 4608, "/neck/Conv": 9216, "/head/Gemm": 640}
    kib = 6.0
    found = on("server", two_hosts({"server": {"memory_mib": kib / 1024}}))
    assert found
    assert sum(weights.get(op, 0) for op in found) <= kib * 1024


def test_activations_count_against_memory_when_asked() -> None:
    """With weights alone all fits the server; the widest tensors do not."""
    hosts = {"server": {"memory_mib": 40 / 1024}}
    assert on("server", two_hosts(hosts)) == set(OPS)
    counted = on("server", two_hosts(hosts, count_activations=True))
    assert not {"/stem/Conv", "/stem/Relu"} & counted


def test_deadline() -> None:
    """The cheapest in energy is the camera alone; the deadline makes it use the server."""
    power = {"camera": {"power_active_w": 0.001}, "server": {"power_active_w": 1000.0}}
    relaxed = two_hosts(power)
    for deadline_ms, hosts in ((None, {"camera"}), (50.0, {"server"})):
        topology = relaxed.model_copy(
            update={
                "constraints": relaxed.constraints.model_copy(update={"deadline_ms": deadline_ms})
            }
        )
        program = solved(narrowing(topology, FAST_SERVER), topology, objective="energy")
        assert program.plan is not None
        assert hosts <= set(program.plan.placement.values())
        if deadline_ms:
            assert program.plan.certificate.predicted_s <= deadline_ms * 1e-3


def test_energy_budget() -> None:
    """A millijoule an op: the budget pays for three, and the camera alone would be the fastest."""
    hosts = {"camera": {"power_active_w": 5.0}}
    as_fast = {"camera": 0.0002, "server": 0.0002}
    assert on("camera", two_hosts(hosts), as_fast) == set(OPS)
    assert len(on("camera", two_hosts(hosts, energy_j={"camera": 0.0031}), as_fast)) <= 3


IMPOSSIBLE: dict[str, tuple[dict[str, Any], Seconds, str]] = {
    "pin against forbid": (
        {"pin": {"camera": ["/neck/Conv"]}, "forbid": {"camera": ["type:Conv"]}},
        FAST_SERVER,
        r"'/neck/Conv' is (pinned to|forbidden on).*'camera'",
    ),
    "pinned where it cannot run": (
        {"pin": {"server": ["/head/Gemm"]}},
        CHEAP_HEAD,
        r"'/head/Gemm' is pinned to host 'server', which cannot run it",
    ),
    "forbidden where alone it can run": (
        {"forbid": {"camera": ["/head/Gemm"]}},
        CHEAP_HEAD,
        r"'/head/Gemm' is forbidden on 'camera', and 'server' cannot run it",
    ),
    "together but pinned apart": (
        {
            "pin": {"camera": ["/stem/Conv"], "server": ["/neck/Conv"]},
            "together": [["/stem/Conv", "/neck/Conv"]],
        },
        FAST_SERVER,
        r"must share a host",
    ),
    "kept local but needed elsewhere": (
        {"keep_local": ["image"], "pin": {"server": ["/stem/Conv"]}},
        FAST_SERVER,
        r"'image' must stay on the host where it arises",
    ),
    "private but pinned elsewhere": (
        {"private_blocks": 2, "pin": {"server": ["/stem/Relu"]}},
        FAST_SERVER,
        r"'/stem/Relu' is pinned to 'camera' and to 'server'",
    ),
    "monotone but pinned to come back": (
        {"monotone": True, "pin": {"server": ["/stem/Conv"], "camera": ["/neck/Conv"]}},
        FAST_SERVER,
        r"must be monotone",
    ),
    "contiguous but pinned to come back": (
        {
            "contiguous": True,
            "pin": {"camera": ["/stem/Conv", "/head/*"], "server": ["/neck/Conv"]},
        },
        FAST_SERVER,
        r"must be contiguous",
    ),
    "one segment but pinned to two": (
        {
            "max_segments": {"camera": 1},
            "pin": {"camera": ["/stem/Conv", "/head/*"], "server": ["/neck/Conv"]},
        },
        FAST_SERVER,
        r"'camera' may run at most 1 segment",
    ),
    "a deadline that nothing meets": (
        {"deadline_ms": 0.01},
        FAST_SERVER,
        r"latency must be at most 1e-05 s",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_hold_is_named(case: str) -> None:
    constraints, seconds, sentence = IMPOSSIBLE[case]
    said = refused(two_hosts(**constraints), seconds)
    assert re.search(sentence, said), said
    assert "\n" not in said


def test_memory_that_is_too_small_is_named() -> None:
    small = {"memory_mib": 0.001}
    said = refused(two_hosts({"camera": small, "server": small}))
    assert "Host 'camera' has" in said
    assert "Host 'server' has" in said


def test_an_energy_budget_that_is_too_small_is_named() -> None:
    hosts = {"camera": {"power_active_w": 5.0}}
    said = refused(two_hosts(hosts, energy_j={"camera": 0.001}, pin={"camera": ["/neck/*"]}))
    assert "Host 'camera' may use at most 0.001 J" in said
    assert "/neck/" in said


@pytest.mark.parametrize(
    ("constraints", "sentence"),
    [
        ({"pin": {"camera": ["/stem/Conf"]}}, "pin: '/stem/Conf' matches no op.*'/stem/Conv'"),
        ({"forbid": {"camera": ["type:Relv"]}}, "forbid: 'type:Relv' matches no op.*'Relu'"),
        ({"together": [["/tail/*"]]}, "together: '/tail/\\*' matches no op"),
        ({"keep_local": ["imag"]}, "keep_local: 'imag' matches no tensor.*'image'"),
    ],
)
def test_a_pattern_that_matches_nothing(constraints: dict[str, Any], sentence: str) -> None:
    said = refused(two_hosts(**constraints))
    assert re.search(sentence, said), said


@pytest.mark.parametrize(
    ("constraints", "sentence"),
    [
        ({"pin": {"camra": ["*"]}}, "[constraints] names a host that is not there.*'camera'"),
        ({"energy_j": {"cam": 1.0}}, "[constraints] names a host"),
        ({"energy_hosts": ["cam"]}, "[constraints] names a host"),
        ({"max_segments": {"cam": 1}}, "[constraints] names a host"),
        ({"max_segments": {"camera": 0}}, "greater than or equal to 1"),
        ({"deadline_ms": -1}, "constraints.deadline_ms"),
        ({"deadline_ms": float("nan")}, "constraints.deadline_ms"),
        ({"loss_budget": -0.1}, "constraints.loss_budget"),
        ({"energy_j": {"camera": -1}}, "constraints.energy_j.camera"),
        ({"private_blocks": -1}, "constraints.private_blocks"),
        ({"pinned": {}}, "constraints.pinned.*'pin'"),
    ],
)
def test_nonsense_in_the_table(constraints: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TopologyError) as caught:
        two_hosts(**constraints)
    pattern = re.escape(sentence).replace(r"\.\*", ".*")
    assert re.search(pattern, str(caught.value)), caught.value


@pytest.mark.parametrize(
    ("constraints", "objective", "sentence"),
    [
        ({"energy_j": {"camera": 1.0}}, "latency", r"power_active_w in \[hosts.camera\]"),
        ({"energy_hosts": ["server"]}, "energy", r"power_active_w in \[hosts.server\]"),
        ({}, "energy", "no host has a power_active_w"),
    ],
)
def test_energy_without_power(constraints: dict[str, Any], objective: str, sentence: str) -> None:
    topology = two_hosts(**constraints)
    with pytest.raises(TopologyError, match=sentence):
        solved(narrowing(topology, FAST_SERVER), topology, objective=objective)


def test_what_a_target_cannot_run_stays_where_it_can() -> None:
    assert on("camera", two_hosts(), CHEAP_HEAD) >= set(OPS[6:])


def test_a_tensor_inside_a_block_never_leaves_anyway() -> None:
    """Naming it is no mistake, and changes nothing."""
    topology = two_hosts(keep_local=["/stem/Conv_out"])
    fused: Program = narrowing(topology, FAST_SERVER, pipeline="infer-shapes,group-blocks")
    assert solved(fused, topology).plan is not None


def test_more_private_blocks_than_there_are() -> None:
    assert "private_blocks is 10000, but the model has" in refused(two_hosts(private_blocks=10_000))


@pytest.mark.parametrize("loss", [1.5, 5.0, -0.1])
def test_a_loss_budget_is_a_share(loss: float) -> None:
    with pytest.raises(TopologyError, match="loss_budget"):
        two_hosts(loss_budget=loss)


def test_no_codec_at_all_may_be_asked_for() -> None:
    assert two_hosts(codecs=[]).constraints.codecs == ()


@pytest.mark.parametrize(
    ("options", "sentence"), [({"gap": -0.1}, "gap"), ({"time_limit": 0.0}, "time limit")]
)
def test_limits_that_make_no_sense_are_refused_at_once(
    options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        Partition(**options)  # type: ignore[arg-type]


def test_a_pattern_that_names_nothing_is_found_before_measuring() -> None:
    topology = two_hosts(pin={"camera": ["/stemm/*"]})
    pipeline = Pipeline.parse("infer-shapes,fold-constants,group-blocks,annotate-costs")
    program = partc.load(MODELS["mobilenetv2"]())
    said: list[str] = []
    context = Context(topology, progress=lambda text, _: said.append(text))
    with pytest.raises(TopologyError, match="'/stemm/\\*' matches no op"):
        pipeline.run(program, topology, context=context)
    assert not any("measur" in text for text in said)
