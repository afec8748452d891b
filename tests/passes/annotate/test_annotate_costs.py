"""Where the costs of blocks come from, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from partc.imports.imported import ImportedCosts, Kernel
from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.conditions import Conditions
from partc.measure.store import CostStore
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.contract import Context, PassResult
from partc.targets.meter import LocalMeter
from partc.targets.protocol import Array, Profile, RunSettings, Sampling
from partc.targets.registry import load_backend
from tests.support.nasty_models import parsed
from tests.support.placements import ingested

MODEL = "g (float[1,8] x) => (float[1,8] y) {a = Relu(x) b = Exp(a) y = Neg(b)}"
QUICK = AnnotateCosts(repeats=3, pause_ms=0.0)


@dataclass(frozen=True)
class Told(LocalMeter):
    """Measures segments, and of profiles gives the one it was told."""

    told: Profile = Profile({}, (1.0,))  # noqa: RUF009 - frozen

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        return self.told


def program() -> Program:
    return ingested(parsed(MODEL, {}).model)


def hosts(**settings: object) -> Topology:
    return Topology.parse({"hosts": {"here": settings}})


def profile(**changes: Any) -> Profile:
    ops = [op.name for op in program().placed_ops]
    return replace(Profile(dict.fromkeys(ops, (1.0,) * 20), (3.0,) * 20), **changes)


def costs(result: PassResult) -> dict[str, Cost]:
    table = result.program.costs
    assert table is not None
    return {block: cost for block, _, cost in table}


def annotated(told: Profile) -> PassResult:
    meter = Told(load_backend("onnxruntime"), told=told)
    return QUICK.run(program(), Context(hosts(), meters={"here": meter}))


def test_a_busy_machine_is_told_and_widens_what_is_known() -> None:
    quiet = annotated(profile(settled=True))
    busy = annotated(profile(settled=False, conditions=Conditions(cores=2, elsewhere=2.0)))
    assert not any("not quiet" in said for said in quiet.program.notices)
    assert any("other processes used 2.0 of its 2 cores" in said for said in busy.program.notices)
    assert any("did not settle" in said for said in busy.diagnostics)
    for block, cost in costs(busy).items():
        before = costs(quiet)[block]
        assert cost.median_s == pytest.approx(before.median_s, rel=1e-2)
        assert cost.interval_s > before.interval_s
        assert (cost.settled, before.settled) == (False, True)
        assert cost.fingerprint == before.fingerprint != ""


def test_stored_costs_have_words_for_people(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    QUICK.run(program(), Context(hosts(), store=store))
    entries = [entry for entry in store.entries() if entry.what.kind == "block"]
    assert entries
    for entry in entries:
        assert entry.about.model == "g"
        assert "1x8 -> 1x8" in entry.about.label


def test_blocks_of_another_model_need_no_measurement(tmp_path: Path) -> None:
    """The whole is then the sum of its blocks and of what a segment costs."""
    store = CostStore(tmp_path / "costs.sqlite")
    QUICK.run(program(), Context(hosts(), store=store))
    wholes = [entry for entry in store.entries() if entry.what.kind == "whole"]
    assert len(wholes) == 1
    store.remove([str(wholes[0].what)])
    found = QUICK.run(program(), Context(hosts(), store=store))
    assert "the whole is their sum" in found.diagnostics[0]
    table = found.program.costs
    assert table is not None
    together_s = sum(cost.median_s for cost in costs(found).values())
    assert together_s + table.segment_fixed_s["here"] == pytest.approx(table.whole_s["here"])
    assert not [entry for entry in store.entries() if entry.what.kind == "whole"]


def test_a_profile_stands_for_its_host() -> None:
    ops = [op.name for op in program().placed_ops]
    imported = ImportedCosts("trtexec", "p.json", (Kernel(" + ".join(ops), (0.5,)),), 10)
    found = QUICK.run(program(), Context(hosts(), imports={"here": imported}))
    assert sum(cost.median_s for cost in costs(found).values()) == pytest.approx(0.5, rel=1e-3)
    assert {cost.provenance for cost in costs(found).values()} == {"imported"}
    assert any("p.json" in said for said in found.diagnostics)


def test_costs_that_were_imported_into_the_store_go_before_a_data_sheet(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    nano = hosts(target="jetson-orin-nano")
    estimated = QUICK.run(program(), Context(nano, store=store))
    assert "estimated from its data sheet" in estimated.diagnostics[0]
    typical = QUICK.run(program(), Context(hosts(target="x86-cpu")))
    assert "estimated from its typical figures" in typical.diagnostics[0]
    assert {cost.provenance for cost in costs(estimated).values()} == {"estimated"}
    QUICK.run(program(), Context(hosts(), store=store))
    there = "tensorrt-10.3/aarch64/NVIDIA Jetson Orin Nano Developer Kit"
    for entry in store.entries():
        key = str(replace(entry.what, fingerprint=there))
        store.add({key: replace(entry.cost, fingerprint=there)})
    found = QUICK.run(program(), Context(nano, store=store))
    assert {cost.provenance for cost in costs(found).values()} == {"measured"}
    assert {cost.fingerprint for cost in costs(found).values()} == {there}
    four = QUICK.run(program(), Context(hosts(target="jetson-orin-nano", threads=4), store=store))
    assert {cost.provenance for cost in costs(four).values()} == {"estimated"}
    assert any("--threads 4" in said for said in four.program.notices)
