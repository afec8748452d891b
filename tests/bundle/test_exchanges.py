"""Pushes and awaits of a manifest that somebody else wrote."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from partc.bundle.manifest import SCHEMA_VERSION, Manifest
from partc.bundle.reader import Bundle
from partc.errors import BundleError
from tests.runtime import meshes, plans
from tests.runtime.handmade import write_bundle

Data = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = write_bundle(tmp_path_factory.mktemp("bundle"), meshes.exchange(2))
    data: Data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return data


def step(data: Data, kind: str, host: str, number: int = 0) -> Data:
    """A step that pushes or awaits."""
    call = next(c for c in data["plan"]["calls"] if c["host"] == host)
    found: Data = [s for s in call["steps"] if kind in s][number]
    return found


def drop(data: Data, kind: str, host: str) -> None:
    call = next(c for c in data["plan"]["calls"] if c["host"] == host)
    call["steps"].remove(step(data, kind, host))


def swap(data: Data) -> None:
    """left pushes its first message only after what right pushes when it has that one."""
    call = next(c for c in data["plan"]["calls"] if c["host"] == "left")
    segments = {s["id"]: s for s in data["plan"]["segments"]}
    pushed = step(data, "push", "left")["push"]["tensors"][0]
    maker = next(s for s in segments.values() if pushed in s["outputs"])
    awaited = step(data, "await", "left", 1)["await"]["tensors"][0]
    maker["inputs"] = [awaited]
    assert call


HOSTILE: dict[str, tuple[Callable[[Data], object], str]] = {
    "a push that nobody awaits": (lambda d: drop(d, "await", "right"), "awaited by no call"),
    "an await that nobody pushes": (lambda d: drop(d, "push", "left"), "which nothing pushes"),
    "another peer": (
        lambda d: step(d, "await", "right")["await"].update(peer="camera"),
        "but is awaited at 'right' from 'camera'",
    ),
    "another receiver": (
        lambda d: step(d, "push", "left")["push"].update(peer="camera"),
        "the host where requests start|is awaited at",
    ),
    "an unknown receiver": (
        lambda d: step(d, "push", "left")["push"].update(peer="rihgt"),
        "Did you mean 'right'",
    ),
    "itself": (lambda d: step(d, "push", "left")["push"].update(peer="left"), "its own host"),
    "other tensors": (
        lambda d: step(d, "await", "right")["await"].update(tensors=["a1"]),
        "other tensors than are awaited",
    ),
    "no tensors": (
        lambda d: (
            step(d, "push", "left")["push"].update(tensors=[]),
            step(d, "await", "right")["await"].update(tensors=[]),
        ),
        "brings no tensor",
    ),
    "unknown tensors": (
        lambda d: step(d, "push", "left")["push"].update(tensors=["ghost"]),
        "unknown tensor 'ghost'",
    ),
    "a push twice": (
        lambda d: d["plan"]["calls"][1]["steps"].append(copy.deepcopy(step(d, "push", "left"))),
        "same id",
    ),
    "an await twice": (
        lambda d: d["plan"]["calls"][2]["steps"].append(copy.deepcopy(step(d, "await", "right"))),
        "awaited twice",
    ),
    "hosts that nothing joins": (
        lambda d: d["topology"].update(
            links=[link for link in d["topology"]["links"] if "camera" in link["between"]]
        ),
        "which nothing joins",
    ),
    "an id that is a path": (
        lambda d: (
            step(d, "push", "left")["push"].update(id="../x"),
            step(d, "await", "right")["await"].update(id="../x"),
        ),
        "not usable",
    ),
    "an id that is a call": (
        lambda d: (
            step(d, "push", "left")["push"].update(id="c1"),
            step(d, "await", "right")["await"].update(id="c1"),
        ),
        "same id",
    ),
    "a circle of waiting": (swap, "would never end: these wait for each other"),
    "a step of two kinds": (
        lambda d: step(d, "push", "left").update(run="p0"),
        "either runs a segment",
    ),
    "a step of no kind": (
        lambda d: d["plan"]["calls"][1]["steps"].append({"run": None, "call": None}),
        "either runs a segment",
    ),
    "an input that the caller does not send": (
        lambda d: d["plan"]["calls"][1].update(inputs=[]),
        "waits for tensor 'a0' at host 'left', which never comes",
    ),
}


def test_what_the_compiler_plans_is_accepted(good: Data) -> None:
    assert json.loads(Manifest.parse(good).to_json()) == good


@pytest.mark.parametrize("name", HOSTILE)
def test_what_contradicts_itself_is_refused(name: str, good: Data) -> None:
    change, sentence = HOSTILE[name]
    data = copy.deepcopy(good)
    change(data)
    with pytest.raises(BundleError, match=sentence):
        Manifest.parse(data)


def test_a_bundle_of_schema_1_is_read_as_before(tmp_path: Any) -> None:
    folder = write_bundle(tmp_path, plans.there_and_back())
    now = Bundle.open(folder)
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == SCHEMA_VERSION
    assert all(set(s) == {"run", "call"} for c in data["plan"]["calls"] for s in c["steps"])
    data["schema_version"] = 1
    (folder / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    assert Bundle.open(folder).identity == now.identity, "hosts of both schemas work together"


def test_a_newer_schema_is_refused(good: Data) -> None:
    with pytest.raises(BundleError, match="update partc"):
        Manifest.parse({**good, "schema_version": SCHEMA_VERSION + 1})
