"""partc costs: list, show, export, import and prune, and what they refuse."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partc.errors import UsageError
from partc.ir.cost import Cost
from partc.measure.entries import About, Entry
from partc.measure.exchange import merged, read_costs, to_json
from partc.measure.keys import CostKey
from partc.measure.store import CostStore
from tests.cli.support import Outcome, partc

Capture = pytest.CaptureFixture[str]

COST = Cost(
    0.001, 0.0001, 40, "measured", "2026-01-02T00:00:00+00:00", 0.00002, True, "cpu/EPYC"
)  # fmt: skip


def entry(number: int = 0, **changes: Any) -> Entry:
    about = About(f"Conv{number} 1x3 -> 1x8", changes.pop("model", "mobilenet"))
    fingerprint = changes.get("fingerprint", "cpu/EPYC")
    what = CostKey("block", f"{number:064x}", fingerprint, changes.pop("settings", "1|all"), 50.0)
    return Entry(str(what), replace(COST, **changes), about)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CostStore:
    path = tmp_path / "costs.sqlite"
    monkeypatch.setenv("PARTC_COSTS", str(path))
    return CostStore(path)


def sentence(done: Outcome, *parts: str, code: int = 2) -> None:
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    for part in parts:
        assert part in done.err


def test_list_shows_what_is_stored(store: CostStore, capfd: Capture) -> None:
    store.put([entry(n) for n in range(3)])
    store.put([entry(7, settled=False, interval_s=0.5, model="[b]e\x1b[31m")])
    store.add({str(CostKey("line-message-fixed", fingerprint="cpu/EPYC")): COST})
    done = partc(capfd, "costs", "list")
    assert done.code == 0, done.err
    for part in ("Conv2", "mobilenet", "5 costs in", "[b]e", "line-message-fixed"):
        assert part in done.out, done.out
    assert "\x1b[31m" not in done.out
    found = json.loads(partc(capfd, "costs", "list", "--json").out)
    assert len(found["costs"]) == 5
    (first,) = (each for each in found["costs"] if each["label"].startswith("Conv0"))
    assert first["key"] == entry(0).key
    assert (first["median_s"], first["interval_s"], first["threads"]) == (0.001, 0.00002, 1)
    assert first["settings"] == "1 thread, all, pause 50 ms"


def test_an_empty_store_is_an_empty_list(store: CostStore, capfd: Capture) -> None:
    done = partc(capfd, "costs", "list")
    assert done.code == 0
    assert "0 costs in" in done.out


def test_filters_choose(store: CostStore, capfd: Capture) -> None:
    store.put([
        entry(0), entry(1, fingerprint="gpu/H200"), entry(2, settings="4|all"),
        entry(3, model="resnet"), entry(4, measured_at="2999-01-01T00:00:00+00:00"),
    ])  # fmt: skip

    def listed(*options: str) -> list[str]:
        done = partc(capfd, "costs", "list", "--json", *options)
        return sorted(each["label"][4] for each in json.loads(done.out)["costs"])

    assert listed("--fingerprint", "h200") == ["1"]
    assert listed("--threads", "4") == ["2"]
    assert listed("--model", "RES") == ["3"]
    assert listed("--older-than", "1d") == ["0", "1", "2", "3"]
    assert listed("--label", "conv4") == ["4"]
    assert listed("--kind", "whole") == []
    assert listed("--model", "mobilenet", "--threads", "1") == ["0", "1", "4"]
    done = partc(capfd, "costs", "list", "--limit", "2")
    assert "2 of 5 costs" in done.out
    sentence(partc(capfd, "costs", "list", "--older-than", "soon"), "'soon'", "30d")


def test_show_says_everything(store: CostStore, capfd: Capture) -> None:
    store.put([entry(0xABCDEF << 232, settled=False)])
    signature = f"{0xABCDEF << 232:064x}"
    for which in (signature[:8], "conv", entry(0xABCDEF << 232).key):
        done = partc(capfd, "costs", "show", which)
        assert done.code == 0
        for part in (signature, "cpu/EPYC", "runs: 40", "settled: no", "2026-01-02"):
            assert part in done.out.replace("\n", ""), done.out
    assert json.loads(partc(capfd, "costs", "show", "conv", "--json").out)["costs"][0]["samples"]
    sentence(partc(capfd, "costs", "show", "Softmax"), "Softmax", "partc costs list")


def test_export_and_import_carry_all(store: CostStore, tmp_path: Path, capfd: Capture) -> None:
    entries = [entry(n, settled=n % 2 == 0) for n in range(50)]
    store.put(entries)
    file, other = tmp_path / "team.json", tmp_path / "other.sqlite"
    assert partc(capfd, "costs", "export", file).code == 0
    CostStore(other)
    done = partc(capfd, "costs", "import", file, "--store", other)
    assert done.code == 0, done.err
    assert "50 added" in done.err
    arrived = CostStore(other).entries()
    assert {e.cost.source for e in arrived} == {"imported from team.json"}
    assert {e.cost.provenance for e in arrived} == {"measured"}
    assert [replace(e, cost=replace(e.cost, source="")) for e in arrived] == entries
    again = json.loads(partc(capfd, "costs", "import", file, "--store", other, "--json").out)
    assert (again["same"], again["added"]) == (50, 0)
    sentence(partc(capfd, "costs", "export", file), "exists already", "--force")
    assert partc(capfd, "costs", "export", file, "--force").code == 0
    printed = partc(capfd, "costs", "export", "-", "--label", "Conv11 ")
    assert [c["label"] for c in json.loads(printed.out)["costs"]] == ["Conv11 1x3 -> 1x8"]


def test_a_newer_measurement_stays_unless_told(
    store: CostStore, tmp_path: Path, capfd: Capture
) -> None:
    file = tmp_path / "team.json"
    file.write_text(to_json([entry(0), entry(1), entry(2)]))
    newer = replace(COST, median_s=9.0, measured_at="2026-05-01T00:00:00+00:00")
    # Written in another time zone it is the same moment, and older than the file's.
    older = replace(COST, median_s=8.0, measured_at="2026-01-02T00:30:00+02:00")
    store.put([Entry(entry(0).key, newer), Entry(entry(1).key, older)])
    told = json.loads(partc(capfd, "costs", "import", file, "--dry-run", "--json").out)
    assert (told["added"], told["replaced"], told["older"]) == (1, 1, 1)
    assert len(store.entries()) == 2
    assert partc(capfd, "costs", "import", file).code == 0
    found = store.find(entry(n).key for n in range(3))
    assert [found[entry(n).key].median_s for n in range(3)] == [9.0, 0.001, 0.001]
    assert partc(capfd, "costs", "import", file, "--overwrite").code == 0
    assert store.find([entry(0).key])[entry(0).key].median_s == 0.001


def test_prune_asks_and_tells(store: CostStore, capfd: Capture) -> None:
    store.put([entry(n, model="old" if n < 3 else "new") for n in range(5)])
    sentence(partc(capfd, "costs", "prune"), "forgets nothing unless told", "--older-than")
    sentence(partc(capfd, "costs", "prune", "--model", "old"), "3 costs", "--yes")
    assert len(store.entries()) == 5
    done = partc(capfd, "costs", "prune", "--model", "old", "--dry-run")
    assert "3 costs would be forgotten" in done.err
    assert "Conv1" in done.out
    assert len(store.entries()) == 5
    assert partc(capfd, "costs", "prune", "--model", "old", "--yes").code == 0
    assert len(store.entries()) == 2
    done = partc(capfd, "costs", "prune", "--older-than", "30d", "--fingerprint", "EPYC",
                 "--yes", "--json")  # fmt: skip
    assert len(json.loads(done.out)["pruned"]) == 2
    assert store.entries() == []
    assert partc(capfd, "costs", "prune", "--all").code == 0  # nothing is there to ask about


def test_a_store_that_is_none_is_refused(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("my thesis")
    sentence(partc(capfd, "costs", "list", "--store", path), "no store of costs", code=1)
    sentence(partc(capfd, "costs", "prune", "--all", "--yes", "--store", path), code=1)
    assert path.read_text() == "my thesis"
    sentence(partc(capfd, "costs", "list", "--store", tmp_path / "none"), "does not exist")
    with sqlite3.connect(tmp_path / "db") as other:
        other.execute("CREATE TABLE t (a)")
    sentence(partc(capfd, "costs", "list", "--store", tmp_path / "db"), "something else", code=1)


def changed(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(to_json([entry(0), entry(1)]))
    for name, value in changes.items():
        data["costs"][1][name] = value
    return data


NONSENSE: list[tuple[dict[str, Any], str]] = [
    (changed(median_s=-1.0), "greater than or equal to 0"),
    (changed(median_s=1e300), "median_s"),
    (changed(median_s="0.1"), "valid number"),
    (changed(median_s=True), "valid number"),
    (changed(samples=0), "samples"),
    (changed(samples=2.5), "samples"),
    (changed(provenance="estimated"), "'measured' or 'imported'"),
    (changed(measured_at="yesterday"), "which is no time"),
    (changed(measured_at="2999-01-01T00:00:00+00:00"), "in the future"),
    (changed(measured_at="9999-12-31T23:59:59-23:59"), "measured"),
    (changed(measured_at=""), "when it was measured"),
    (changed(key="nonsense"), "no key of a cost"),
    (changed(key="block|xyz"), "no key of a cost"),
    (changed(key=entry(0).key), "twice"),
    (changed(key=f"block|{'0' * 64}|"), "no key"),
    (changed(label="\x1b[31mred"), "control characters"),
    (changed(model="x" * 1001), "1000 characters"),
    (changed(unknown=1), "unknown"),
    ({"format": "other", "costs": []}, "no costs that partc costs export wrote"),
    ({"format": "partc-costs", "version": 99, "costs": []}, "version 99"),
    ({"format": "partc-costs", "version": True, "costs": []}, "version"),
    ({"format": "partc-costs", "version": 1}, "costs"),
]


@pytest.mark.parametrize(("data", "part"), NONSENSE)
def test_nonsense_is_refused_whole(
    store: CostStore, tmp_path: Path, capfd: Capture, data: dict[str, Any], part: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(data))
    sentence(partc(capfd, "costs", "import", file), "bad.json", part)
    assert store.entries() == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": "partc-costs"' * 9,
        b'{"format":"partc-costs","version":1,"costs":[{"key":"k","median_s":NaN}]}',
        b'{"format":"partc-costs","version":1,"costs":[{"key":"k","median_s":'
        + b"9" * 5000 + b"}]}",
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(
    store: CostStore, tmp_path: Path, capfd: Capture, content: bytes
) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    sentence(partc(capfd, "costs", "import", file), "bad.json")
    sentence(partc(capfd, "costs", "import", tmp_path / "none.json"), "cannot be read")
    sentence(partc(capfd, "costs", "import", tmp_path), "cannot be read")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(changed()["costs"][0])), JSON)
def test_whatever_a_field_holds_it_is_read_or_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(changed(**{name: value})))
    try:
        assert len(read_costs(file)) == 2
    except UsageError as error:
        assert str(file) in error.message


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 28)), max_size=8), st.booleans())
def test_merging_loses_nothing_newer(pairs: list[tuple[int, int]], overwrite: bool) -> None:
    def of(pairs: Iterable[tuple[int, int]]) -> dict[str, Entry]:
        made = (entry(n, measured_at=f"2026-01-{day:02d}T00:00:00+00:00") for n, day in pairs)
        return {e.key: e for e in made}

    half = len(pairs) // 2
    known, arriving = of(pairs[:half]), of(pairs[half:])
    keep, counts = merged(known, list(arriving.values()), overwrite)
    assert sum(counts.values()) == len(arriving)
    after = known | {e.key: e for e in keep}
    assert set(after) == set(known) | set(arriving)
    for key, found in after.items():
        times = [e[key].cost.measured_at for e in (known, arriving) if key in e]
        assert found.cost.measured_at == (times[-1] if overwrite else max(times))
