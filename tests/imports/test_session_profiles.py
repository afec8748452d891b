"""ONNX Runtime's profiles, as it writes them here and now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from partc.errors import UsageError
from partc.imports.attribution import attribute
from partc.imports.reading import read
from partc.ir.program import Program
from tests.support.data import data_dir
from tests.support.placements import ingested, topology_of

Profiled = Callable[..., Path]


@pytest.mark.parametrize("level", ["NONE", "BASIC", "EXTENDED", "ALL"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_level_is_read_and_nothing_is_lost(
    session_profile: Profiled, program: Program, level: str, threads: int
) -> None:
    imported = read(session_profile(level, threads))
    assert (imported.kind, imported.runs, imported.threads) == ("onnxruntime", 5, threads)
    assert imported.runtime == "CPUExecutionProvider"
    assert len(imported.whole_s) == 5
    found = attribute(imported, program)
    assert set(found.costs) == {block.name for block in program.blocks or ()}
    together = sum(cost.median_s for cost in found.costs.values())
    assert together == pytest.approx(found.whole.median_s)
    assert found.costs["conv"].median_s > 0.3 * together
    for cost in found.costs.values():
        assert (cost.provenance, cost.samples) == ("imported", 5)
        assert "ONNX Runtime profile" in cost.source
    assert {each.name for each in found.unattributed} <= {"ReorderOutput", "ReorderInput"}


def test_what_belongs_to_no_op_is_shown(session_profile: Profiled, program: Program) -> None:
    path = session_profile("ALL")
    events = json.loads(path.read_text())
    for event in events:
        if event["name"] == "fc_kernel_time" or "fc" in event["name"]:
            event["name"] = "Mystery [red]\x1b[31m_kernel_time"
    path.write_text(json.dumps(events))
    found = attribute(read(path), program)
    assert any(each.name.startswith("Mystery") for each in found.unattributed)
    assert any("Mystery" in notice and "no op" in notice for notice in found.notices)
    assert "fc" in found.silent
    assert sum(c.median_s for c in found.costs.values()) == pytest.approx(found.whole.median_s)


def test_bodies_count_once(session_profile: Profiled) -> None:
    path = data_dir() / "models" / "cifar10_resnet8_loop.onnx"
    imported = read(session_profile("ALL", path=path, shape=(1, 3, 32, 32)))
    assert imported.kernels_s <= max(imported.whole_s)
    assert sum(kernel.type == "Loop" for kernel in imported.kernels) == 1
    program = ingested(onnx.load(path), topology_of(("a", "b")))
    found = attribute(imported, program)
    assert sum(c.median_s for c in found.costs.values()) == pytest.approx(found.whole.median_s)


def test_another_models_profile_is_refused(session_profile: Profiled, program: Program) -> None:
    path = data_dir() / "models" / "cifar10_resnet8.onnx"
    imported = read(session_profile("ALL", path=path, shape=(1, 3, 32, 32)))
    with pytest.raises(UsageError, match=r"profile of another model.*'conv'"):
        attribute(imported, program)


def test_few_runs_all_count(session_profile: Profiled) -> None:
    imported = read(session_profile(runs=2))
    assert (imported.runs, imported.notices) == (2, ())


def test_a_session_that_never_ran(session_profile: Profiled) -> None:
    with pytest.raises(UsageError, match="never run"):
        read(session_profile(runs=0))


def test_a_profile_that_was_cut_off(session_profile: Profiled, write: Callable[..., Path]) -> None:
    whole = session_profile().read_bytes()
    for size in (len(whole) - 2, len(whole) // 2, 40):
        with pytest.raises(UsageError, match="cut off or damaged"):
            read(write(whole[:size]))


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("dur", -5, "no time that a kernel takes"),
        ("dur", None, "not a time"),
        ("dur", "quick", "not a time"),
        ("dur", 1e300, "no time that a kernel takes"),
        ("ts", [], "not a time"),
        ("ts", True, "not a time"),
        ("dur", float("nan"), "no time"),
    ],
)
def test_events_that_make_no_sense(
    session_profile: Profiled, write: Callable[..., Path], name: str, value: object, part: str
) -> None:
    events: list[dict[str, Any]] = json.loads(session_profile().read_text())
    kernel = next(e for e in events if e["name"].endswith("_kernel_time"))
    kernel[name] = value
    with pytest.raises(UsageError, match=part):
        read(write(events))


def test_runs_that_did_not_end(session_profile: Profiled, write: Callable[..., Path]) -> None:
    events = [e for e in json.loads(session_profile().read_text()) if e["name"] != "model_run"]
    with pytest.raises(UsageError, match="no complete run"):
        read(write(events))


def test_strange_arguments_are_no_matter(
    session_profile: Profiled, write: Callable[..., Path]
) -> None:
    events = json.loads(session_profile().read_text())
    for number, event in enumerate(events):
        event["args"] = [None, [], {"op_name": 7, "provider": {}}, "text"][number % 4]
    imported = read(write([*events, 7, None, {}, {"cat": "Node"}]))
    assert imported.threads is None
    assert imported.runtime == ""
