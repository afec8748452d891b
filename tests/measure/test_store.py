"""The store of measured costs: shared, and never a reason for a compilation to fail."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

import partc
from partc.ir.cost import Cost
from partc.ir.topology import Topology
from partc.measure.signature import block_signature
from partc.measure.store import CostStore, default_path
from tests.support.nasty_models import parsed
from tests.support.placements import QUICK, TWO_HOSTS, ingested

COST = Cost(0.001, 0.0001, 40, "measured", "2026-01-01T00:00:00+00:00")
MODEL = "g (float[1,8] x) => (float[1,8] y) {a = Relu(x) b = Exp(a) y = Neg(b)}"


def test_what_is_added_is_found(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "deep" / "costs.sqlite")
    store.add({f"k{i}": replace(COST, samples=i) for i in range(1200)})
    found = CostStore(store.path).find([*(f"k{i}" for i in range(1200)), "other"])
    assert found == {f"k{i}": replace(COST, samples=i) for i in range(1200)}
    assert store.notice == ""


def test_a_newer_measurement_replaces_an_older_one(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    store.add({"k": COST})
    store.add({"k": replace(COST, median_s=0.5)})
    assert store.find(["k"])["k"].median_s == 0.5


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARTC_COSTS", str(tmp_path / "mine"))
    assert default_path() == tmp_path / "mine"


@pytest.mark.parametrize("damage", ["text", "cut", "middle"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "costs.sqlite"
    CostStore(path).add({f"key number {i}": COST for i in range(3000)})
    data = path.read_bytes()
    damaged = {
        "text": b"no database at all, only text " * 100,
        "cut": data[:2000] + b"\xff" * 3000,
        "middle": data[:100] + b"\xff" * (len(data) - 100),
    }[damage]
    path.write_bytes(damaged)
    store = CostStore(path)
    store.add({"k": COST})
    store.find(["k"])
    assert "damaged" in store.notice or "cannot be kept" in store.notice
    if "damaged" in store.notice:
        assert store.find(["k"]) == {"k": COST}
        (aside,) = (p for p in tmp_path.iterdir() if "corrupt" in p.name)
        assert aside.read_bytes() == damaged
        assert str(aside) in store.notice


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE costs (rent REAL)")
    store = CostStore(path)
    assert "cannot be kept" in store.notice
    assert store.find(["k"]) == {}
    store.add({"k": COST})
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM costs").fetchone() == (0,)


def test_where_nothing_can_be_written_costs_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = CostStore(tmp_path / "file" / "costs.sqlite")
    assert "cannot be kept" in store.notice
    assert "PARTC_COSTS" in store.notice
    store.add({"k": COST})
    assert store.find(["k"]) == {}


def test_a_store_that_became_read_only_is_read_but_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    store.add({"k": COST})
    real = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **kw: real(f"file:{path}?mode=ro", uri=True, **kw)
    )
    assert CostStore(store.path).find(["k"]) == {"k": COST}
    reader = CostStore(store.path)
    reader.add({"other": COST})
    assert "readonly" in reader.notice


def _write(path: Path, first: int) -> None:
    for i in range(first, first + 40):
        store = CostStore(path)
        store.add({f"k{i}": COST})
        assert store.find([f"k{i}"])
        assert store.notice == ""


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, n * 40)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(CostStore(path).find(f"k{i}" for i in range(120))) == 120


def test_a_bad_store_is_a_notice_and_not_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = CostStore(tmp_path / "file" / "costs.sqlite")
    bundle = partc.compile(
        parsed(MODEL, {}).model, TWO_HOSTS, output=tmp_path / "b", pipeline=QUICK, store=store
    )
    assert any("cannot be kept" in notice for notice in bundle.manifest.notices)


def test_a_second_compilation_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    model = parsed(MODEL, {}).model
    first = partc.compile(model, TWO_HOSTS, output=tmp_path / "b1", pipeline=QUICK, store=store)

    def never(*args: object) -> None:
        raise AssertionError("it was measured again")

    monkeypatch.setattr("partc.targets.onnxruntime.profiler.profile", never)
    second = partc.compile(model, TWO_HOSTS, output=tmp_path / "b2", pipeline=QUICK, store=store)
    assert [b.costs for b in second.manifest.blocks] == [b.costs for b in first.manifest.blocks]


def test_other_threads_are_other_costs(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    model = parsed(MODEL, {}).model
    partc.compile(model, TWO_HOSTS, output=tmp_path / "b1", pipeline=QUICK, store=store)
    with sqlite3.connect(store.path) as costs:
        before = costs.execute("SELECT count(*) FROM costs WHERE key LIKE 'block%'").fetchone()[0]
    data = TWO_HOSTS.model_dump()
    data["hosts"]["server"]["threads"] = 2
    partc.compile(model, Topology.parse(data), output=tmp_path / "b2", pipeline=QUICK, store=store)
    with sqlite3.connect(store.path) as costs:
        after = costs.execute("SELECT count(*) FROM costs WHERE key LIKE 'block%'").fetchone()[0]
    assert after == 2 * before


def signatures(graph: str) -> list[str]:
    program = ingested(parsed(graph, {}).model)
    return [block_signature(program, block) for block in program.blocks or ()]


def test_names_do_not_count_and_shapes_do() -> None:
    one = signatures("g (float[2,3] x) => (float[2,3] y) {a = Exp(x) y = Neg(a)}")
    other = signatures("h (float[2,3] i) => (float[2,3] o) {m = Exp(i) o = Neg(m)}")
    larger = signatures("g (float[2,4] x) => (float[2,4] y) {a = Exp(x) y = Neg(a)}")
    assert one == other
    assert set(one).isdisjoint(larger)


LOOP = """g (float[R] x) => (float[R] y) <int64 n = {COUNT}> {
    y = Loop (n, , x) <body = l (int64 i, bool c, float[R] s) => (bool k, float[R] t)
    { k = Identity(c) t = Add(s, x) }> }"""


def test_the_number_of_rounds_and_what_a_body_captures_count() -> None:
    def of(size: int, count: int) -> list[str]:
        return signatures(LOOP.replace("COUNT", str(count)).replace("R]", f"{size}]"))

    assert of(4, 3) == of(4, 3)
    assert of(4, 3) != of(4, 300)
    assert of(4, 3) != of(400, 3)


def test_the_users_own_store_is_not_touched_by_tests() -> None:
    assert "pytest" in os.environ["PARTC_COSTS"]
