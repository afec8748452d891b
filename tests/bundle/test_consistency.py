"""A manifest that contradicts itself is refused in one sentence, whoever wrote it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from partc.bundle.manifest import Manifest
from partc.errors import BundleError
from partc.ir.topology import Topology
from tests.support.narrowing import OPS, Seconds, bundled

Data = dict[str, Any]

COSTS: Seconds = {
    "camera": {op: 0.004 if op.startswith("/head") else 0.0005 for op in OPS},
    "server": 0.0002,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A split with an encoded transfer and a portfolio."""
    topology = Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 1, "rtt_ms": 2}],
            "constraints": {"codecs": ["lz4"], "private_blocks": 2},
            "conditions": {"bandwidth_mbit_s": [0.05, 1000]},
        }
    )
    bundle = bundled(topology, COSTS, tmp_path_factory.mktemp("manifest") / "bundle")
    data: Data = json.loads((bundle.path / "manifest.json").read_text(encoding="utf-8"))
    assert len(data["plan"]["calls"]) > 1
    assert len(data["portfolio"]["plans"]) > 1
    assert len(data["plan"]["transfers"]) > 1
    return data


def test_the_manifest_as_it_was_written_is_accepted(good: Data) -> None:
    assert json.loads(Manifest.parse(good).to_json()) == good


def put(*path: Any, value: Any) -> Callable[[Data], None]:
    """Change one value."""

    def change(data: Data) -> None:
        place: Any = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        place: Any = data
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def repeat(*path: Any, **changes: Any) -> Callable[[Data], None]:
    """Append a copy of the first entry of a list."""

    def change(data: Data) -> None:
        place: Any = data
        for key in path:
            place = place[key]
        place.append(copy.deepcopy(place[0]) | changes)

    return change


PLAN = ("plan",)
OTHER = ("portfolio", "plans", 1)

HOSTILE: dict[str, tuple[Callable[[Data], object], str]] = {
    "an unknown codec": (put(*PLAN, "transfers", 0, "codec", value="lz5"), "Did you mean 'lz4'"),
    "a codec of another plan": (
        put("portfolio", "plans", -1, "plan", "transfers", 0, "codec", value="jpeg"),
        "no codec",
    ),
    "a transfer of nothing": (
        put(*PLAN, "transfers", 0, "tensor", value="ghost"),
        "unknown tensor 'ghost'",
    ),
    "a transfer from nowhere": (put(*PLAN, "transfers", 0, "from", value="cam"), "'camera'"),
    "a transfer to itself": (
        lambda data: data["plan"]["transfers"][0].update(to=data["plan"]["transfers"][0]["from"]),
        "sent to its own host",
    ),
    "a transfer twice": (repeat(*PLAN, "transfers"), "to one host twice"),
    "a transfer of less than nothing": (put(*PLAN, "transfers", 0, "bytes", value=-1), "bytes"),
    "bits taken from whole numbers": (
        lambda data: (
            [spec.update(dtype="int64") for spec in data["tensors"].values()],
            [s.update(dtype="int64") for k in ("inputs", "outputs") for s in data["model"][k]],
            data["plan"]["transfers"][0].update(codec="int8"),
        ),
        "cannot carry",
    ),
    "a type that is none": (put("tensors", "image", "dtype", value="float31"), "element type"),
    "a type that runs": (put("tensors", "image", "dtype", value="__class__"), "element type"),
    "a type of objects": (put("tensors", "image", "dtype", value="object"), "element type"),
    "a shape below zero": (
        put("tensors", "image", "planned_shape", value=[1, -3, 32, 32]),
        "negative dimension",
    ),
    "a tensor under another name": (put("tensors", "image", "name", value="x"), "under the name"),
    "an input that is not described": (drop("tensors", "image"), "image"),
    "a host that the topology lacks": (
        lambda data: data["hosts"].update(spy=data["hosts"]["camera"]),
        "not those of the topology",
    ),
    "a call that is never made": (
        repeat(*PLAN, "calls", id="c9", caller="camera"),
        "is never made|runs|is in two",
    ),
    "a call that makes itself": (
        lambda data: data["plan"]["calls"][1]["steps"].append(
            {"run": None, "call": data["plan"]["calls"][1]["id"]}
        ),
        "made twice|wrong host",
    ),
    "a call made twice": (
        lambda data: data["plan"]["calls"][0]["steps"].append(
            next(s for s in data["plan"]["calls"][0]["steps"] if s["call"])
        ),
        "made twice",
    ),
    "a call that does not exist": (
        lambda data: data["plan"]["calls"][0]["steps"].append({"run": None, "call": "c77"}),
        "unknown call 'c77'",
    ),
    "a step of both kinds": (
        put(*PLAN, "calls", 0, "steps", 0, value={"run": "s0", "call": "c1"}),
        "either runs a segment or makes a call",
    ),
    "a request that is called": (put(*PLAN, "calls", 0, "caller", value="server"), "first call"),
    "no calls at all": (put(*PLAN, "calls", value=[]), "first call"),
    "a request without an answer": (put(*PLAN, "calls", 0, "outputs", value=[]), "its outputs"),
    "a request without its input": (put(*PLAN, "calls", 0, "inputs", value=[]), "its outputs"),
    "another plan without an answer": (
        put(*OTHER, "plan", "calls", 0, "outputs", value=[]),
        "its outputs",
    ),
    "a segment that reads what nobody makes": (
        lambda data: (
            data["tensors"].update(ghost=data["tensors"]["image"] | {"name": "ghost"}),
            data["plan"]["segments"][0]["inputs"].append("ghost"),
            [
                s["inputs"].append("ghost")
                for each in data["portfolio"]["plans"]
                for s in each["plan"]["segments"]
                if s["id"] == data["plan"]["segments"][0]["id"]
            ],
        ),
        "reads 'ghost', which nothing makes",
    ),
    "a segment that makes an input": (
        lambda data: [
            s["outputs"].append("image")
            for plan in (data["plan"], *(e["plan"] for e in data["portfolio"]["plans"]))
            for s in plan["segments"]
        ],
        "made twice",
    ),
    "a segment that differs between plans": (
        put(*PLAN, "segments", 0, "predicted_s", value=77.0),
        "differs between two plans",
    ),
    "a segment on no host": (put(*PLAN, "segments", 0, "host", value="moon"), "unknown host"),
    "a segment without a file": (put("hosts", "camera", "artefacts", value={}), "no artefact"),
    "a file of no segment": (
        lambda data: data["hosts"]["server"]["fallback"].update(
            s99=next(iter(data["hosts"]["camera"]["artefacts"].values()))
        ),
        "unknown segment 's99'",
    ),
    "another's segment as its own": (
        lambda data: data["hosts"]["server"]["artefacts"].update(
            {
                data["plan"]["segments"][0]["id"]: next(
                    iter(data["hosts"]["server"]["artefacts"].values())
                )
            }
        ),
        "another host's segment",
    ),
    "weights outside of the bundle": (
        lambda data: next(
            a for a in data["hosts"]["camera"]["artefacts"].values() if a["data"]
        ).update(data=["../../etc/passwd"]),
        "has no digest",
    ),
    "a file outside of the bundle": (
        lambda data: data["files"].update({"../x": {"sha256": "0" * 64, "size_bytes": 1}}),
        "leaves the bundle",
    ),
    "a digest that is none": (
        lambda data: next(iter(data["files"].values())).update(sha256="beef"),
        "is not a SHA-256",
    ),
    "a portfolio without plans": (
        lambda data: data["portfolio"].update(plans=[], map=[]),
        "has no plans|unknown segment",
    ),
    "two plans of one name": (
        lambda data: data["portfolio"]["plans"][1].update(
            name=data["portfolio"]["plans"][0]["name"]
        ),
        "two plans of the portfolio are named",
    ),
    "a plan that hides the chosen one": (
        put(*OTHER, "name", value="chosen"),
        "cannot be named 'chosen'",
    ),
    "a plan whose name is a path": (put(*OTHER, "name", value="../x"), "cannot be named"),
    "a plan that starts elsewhere": (put(*OTHER, "plan", "root", value="server"), "same root"),
    "a plan that survives its own device": (put(*OTHER, "survives", value=["camera"]), "lose it"),
    "a plan that survives a stranger": (put(*OTHER, "survives", value=["servr"]), "'server'"),
    "a map with an unknown plan": (put("portfolio", "map", 0, "plan", value="spilt"), "no plan"),
    "a cost below zero": (put(*OTHER, "cost", "sent_bytes", value=-1), "sent_bytes"),
    "a cost that is no number": (put(*OTHER, "cost", "device_s", value="NaN"), "device_s"),
    "no bandwidth": (put("portfolio", "base_bandwidth_mbit_s", value=0), "base_bandwidth"),
    "more than all certified": (put("portfolio", "certified_fraction", value=1.5), "certified"),
    "an unknown objective of a front": (
        put("pareto", value={"objectives": ["latency", "beauty"], "points": [], "complete": True}),
        "pareto.objectives",
    ),
    "a key that is not there": (put("portfolio", "best", value=1), "portfolio.best"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_contradictions_are_refused(case: str, good: Data) -> None:
    change, sentence = HOSTILE[case]
    data = copy.deepcopy(good)
    change(data)
    with pytest.raises(BundleError, match=sentence) as caught:
        Manifest.parse(data)
    assert "\n" not in str(caught.value)


def test_calls_that_are_nested_without_end(good: Data) -> None:
    data = copy.deepcopy(good)
    data["portfolio"] = None
    calls = data["plan"]["calls"]
    deepest = calls[1]
    for number in range(3000):
        inner = deepest | {
            "id": f"d{number}",
            "host": "camera" if deepest["host"] == "server" else "server",
            "caller": deepest["host"],
            "steps": [],
        }
        deepest["steps"] = [*deepest["steps"], {"run": None, "call": inner["id"]}]
        calls.append(inner)
        deepest = inner
    with pytest.raises(BundleError, match="nested more than"):
        Manifest.parse(data)
