"""The store of measured costs: shared, and never a reason for a compilation to fail."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import partc
from partc.ir.topology import Topology
from partc.measure import schema
from partc.measure.entries import About
from partc.measure.keys import KINDS, CostKey
from partc.measure.signature import block_signature
from partc.measure.store import CostStore, default_path
from tests.measure.workers import COST, open_and_count, use_damaged, write_forty
from tests.support.nasty_models import parsed
from tests.support.placements import QUICK, TWO_HOSTS, ingested

ROOT = Path(__file__).resolve().parents[2]
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
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.sqlite"
    monkeypatch.setattr("partc.measure.store.own_path", lambda: path)
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
    assert store.find(["k"]) == {"k": COST}
    assert "damaged" in store.notice
    (aside,) = (p for p in tmp_path.iterdir() if "corrupt" in p.name)
    assert aside.read_bytes() == damaged
    assert str(aside) in store.notice


def test_what_can_be_read_of_a_damaged_store_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    CostStore(path).add({f"key number {i}": COST for i in range(3000)})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    store = CostStore(path)
    found = store.find(f"key number {i}" for i in range(3000))
    assert "damaged" in store.notice
    assert f"the {len(found)} costs that could be read" in store.notice
    assert 1000 < len(found) < 3000
    assert set(found.values()) == {COST}
    assert CostStore(path).notice == ""


def test_damage_that_comes_while_it_is_used_is_set_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    store = CostStore(path)
    store.add({f"key number {i}": COST for i in range(3000)})
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    store.add({"k": COST})
    assert store.find(["k"]) == {"k": COST}
    assert "damaged" in store.notice


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary, today " * 100,
        b"\x89PNG\r\n",
        b"SQLite format 3\0" + b"\xff" * 8000,
        b'{"entries": [{"median_s": 0.001}]}',
        b"#".ljust(68) + schema.APPLICATION_ID.to_bytes(4, "big") + b" is what a store says",
    ],
)
def test_a_file_that_never_was_a_store_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    store = CostStore(path)
    store.add({"k": COST})
    assert store.find(["k"]) == {}
    assert "cannot be kept" in store.notice
    assert "no store" in store.notice
    assert [p.read_bytes() for p in tmp_path.iterdir() if p.name == "precious"] == [content]
    assert not [p for p in tmp_path.iterdir() if "corrupt" in p.name]


def test_the_database_of_another_program_gets_no_table(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    store = CostStore(path)
    assert "database of something else" in store.notice
    assert path.read_bytes() == before


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    CostStore(path).add({"k": COST})
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 99")
    assert "later version" in CostStore(path).notice


FIRST_VERSION = """CREATE TABLE costs (key TEXT PRIMARY KEY, median_s REAL NOT NULL,
    spread_s REAL NOT NULL, samples INTEGER NOT NULL, measured_at TEXT NOT NULL)"""
OLD_KEY = f"block|{'a' * 64}|onnxruntime-1.32.0-cpu/x86_64/AMD EPYC|1|all|pause 50 ms"


def old_store(path: Path, count: int = 500) -> None:
    with sqlite3.connect(path) as old:
        old.execute(FIRST_VERSION)
        rows = [(f"{OLD_KEY}{i}", 0.001, 0.0001, 40, "2026-01-01T00:00:00+00:00")
                for i in range(count)]  # fmt: skip
        old.execute("INSERT INTO costs VALUES (?, 0.002, 0.0001, 40, '')", (OLD_KEY,))
        old.executemany("INSERT INTO costs VALUES (?, ?, ?, ?, ?)", rows)


def test_an_older_store_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    old_store(path)
    store = CostStore(path)
    assert store.notice == ""
    assert len(store.entries()) == 501
    (entry,) = (e for e in store.entries() if e.key == OLD_KEY)
    assert (entry.what.kind, entry.what.signature) == ("block", "a" * 64)
    assert entry.what.fingerprint == "onnxruntime-1.32.0-cpu/x86_64/AMD EPYC"
    assert entry.cost.fingerprint == entry.what.fingerprint
    assert entry.what.conditions_text == "1 thread, all, pause 50 ms"
    # And the earlier partc goes on with it.
    with sqlite3.connect(path) as old:
        old.execute("INSERT OR REPLACE INTO costs (key, median_s, spread_s, samples, measured_at) "
                    "VALUES ('new', 0.5, 0.1, 3, '')")  # fmt: skip
    assert CostStore(path).find(["new"])["new"].median_s == 0.5


def test_several_processes_take_over_an_older_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    old_store(path)
    run_at_once(open_and_count, [(path, 501)] * 3)


def test_several_processes_set_a_damaged_store_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    CostStore(path).add({f"key number {i}": COST for i in range(3000)})
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    run_at_once(use_damaged, [(path, n) for n in range(3)])
    assert len(CostStore(path).find(f"mine {n}" for n in range(3))) == 3
    assert len([p for p in tmp_path.iterdir() if "corrupt" in p.name]) == 1


def test_the_first_words_about_a_cost_stay(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    store.add({"k": COST})
    store.add({"k": COST}, {"k": About("Conv 1x3 -> 1x8", "mobilenet")})
    store.add({"k": replace(COST, samples=7)}, {"k": About("Conv", "other")})
    (entry,) = store.entries()
    assert entry.about == About("Conv 1x3 -> 1x8", "mobilenet")
    assert entry.cost.samples == 7


def test_rows_that_no_measurement_gave_are_passed_over(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    store.add({"k": COST, "negative": replace(COST, median_s=-1.0)})
    with sqlite3.connect(store.path) as costs:
        for key, value in (("text", "fast"), ("blob", b"x"), ("huge", 1e300)):
            costs.execute("INSERT INTO costs (key, median_s, spread_s, samples, measured_at) "
                          "VALUES (?, ?, 0, 1, '')", (key, value))  # fmt: skip
    assert set(store.find(["k", "negative", "text", "blob", "huge"])) == {"k"}
    assert [e.key for e in store.entries()] == ["k"]


def test_costs_of_the_same_structure_elsewhere_are_found(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    key = CostKey("block", "b" * 64, "here", "1|all", 50.0)
    others = [replace(key, settings="4|all"), replace(key, fingerprint="there")]
    unrelated = replace(key, signature="c" * 64)
    store.add({str(k): COST for k in (*others, unrelated)})
    assert {e.what for e in store.like([str(key)])} == set(others)


@settings(deadline=None)
@given(
    st.builds(
        CostKey,
        kind=st.sampled_from(list(KINDS)),
        signature=st.sampled_from(["", "0a" * 32]),
        fingerprint=st.text("abc/ .-", min_size=1).filter(lambda t: not t.startswith("power ")),
        settings=st.sampled_from(["", "1|all", "16|extended|CUDAExecutionProvider,device_id=0"]),
        pause_ms=st.sampled_from([None, 0.0, 50.0, 0.5]),
        power=st.sampled_from(["", "15W", "MAXN SUPER"]),
    )
)
def test_keys_read_back(key: CostKey) -> None:
    assert CostKey.parse(str(key)) == key


@settings(deadline=None)
@given(st.text())
def test_any_text_is_some_key(text: str) -> None:
    CostKey.parse(text)


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


def run_at_once(work: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    run_at_once(write_forty, [(path, n * 40) for n in range(3)])
    assert len(CostStore(path).find(f"k{i}" for i in range(120))) == 120


def test_what_a_killed_process_had_kept_is_there(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.measure.workers", path],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(30)][-1]
    process.kill()
    last = max([last, *map(int, process.stdout.read().split()[:-1])])
    process.wait()
    store = CostStore(path)
    assert len(store.find(f"k{i}" for i in range(last + 1))) == last + 1
    assert store.notice == ""


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
