"""Costs count for the power mode in which they were measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from partc.errors import TargetError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.keys import CostKey
from partc.measure.power_mode import in_mode
from partc.measure.store import CostStore
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.contract import Context
from partc.targets.meter import LocalMeter
from partc.targets.protocol import Detection
from partc.targets.registry import load_backend
from tests.support.narrowing import narrowing_model
from tests.support.placements import ingested

QUICK = AnnotateCosts(repeats=3, budget_s=0.1, pause_ms=0.0)


class Node(LocalMeter):
    """This machine, as if it were a node whose power mode can be set."""

    where = "the node"
    mode = ""

    def detect(self) -> Detection:
        found = super().detect()
        return replace(found, fingerprint=in_mode(found.fingerprint, type(self).mode))


@pytest.fixture
def store(tmp_path: Path) -> CostStore:
    return CostStore(tmp_path / "costs.sqlite")


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    Node.mode = ""
    yield
    Node.mode = ""


@pytest.fixture(scope="module")
def program() -> Program:
    return ingested(narrowing_model(), Topology.parse({"hosts": {"node": {}}}))


def annotate(program: Program, store: CostStore, in_power: str, asked: str | None = None) -> str:
    """What is said, of a node that is ``in_power``."""
    Node.mode = in_power
    host = {"agent": "127.0.0.1:9"} | ({} if asked is None else {"power_mode": asked})
    topology = Topology.parse({"hosts": {"node": host}})
    meters = {"node": Node(load_backend("onnxruntime"))}
    found = QUICK.run(program, Context(topology, store=store, meters=meters))
    return " ".join((*found.diagnostics, *found.program.notices))


def test_a_mode_is_part_of_the_key(program: Program, store: CostStore) -> None:
    assert "measured" in annotate(program, store, "15W")
    assert {entry.what.power for entry in store.entries()} == {"15W"}
    assert not any("power mode" in entry.what.fingerprint for entry in store.entries())
    assert "found in the store" in annotate(program, store, "15W")
    said = annotate(program, store, "30W")
    assert "measured" in said and "power mode 15W" in said
    assert "found in the store" in annotate(program, store, "15W")


def test_a_topology_asks_for_a_mode(program: Program, store: CostStore) -> None:
    with pytest.raises(TargetError, match=r"'15W', of which .* the node is in '30W'; set .*--host"):
        annotate(program, store, "30W", "15W")
    with pytest.raises(TargetError, match="shows no power mode"):
        annotate(program, store, "", "15W")
    assert "measured" in annotate(program, store, "15W", "15W")
    assert "found in the store" in annotate(program, store, "30W", "15W")


@pytest.mark.parametrize("noted", [False, True])
def test_costs_of_earlier_stores_count(program: Program, store: CostStore, noted: bool) -> None:
    """They had the mode of a node in its fingerprint, and none of this machine."""
    annotate(program, store, "15W")
    for entry in store.entries():
        old = replace(entry.what, power="")
        if noted:
            old = replace(old, fingerprint=in_mode(old.fingerprint, "15W"))
        store.add({str(old): entry.cost})
        store.remove([entry.key])
    assert "found in the store" in annotate(program, store, "15W")
    if noted:
        assert "found in the store" in annotate(program, store, "30W", "15W")
    else:
        with pytest.raises(TargetError, match="of which the store has not all costs"):
            annotate(program, store, "30W", "15W")


def test_the_forms_of_a_key() -> None:
    key = CostKey("block", "0" * 64, "cpu", "1|all", 50.0, "15W")
    assert [CostKey.parse(text).mode for text in key.texts()] == ["15W", "15W", ""]
    assert len(key.texts(of_any_mode=False)) == 2
    assert replace(key, power="").texts() == (str(replace(key, power="")),)
