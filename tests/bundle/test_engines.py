"""Which engine is taken, when one is built, and when a segment falls back."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partc.bundle.engine_store import EngineStore
from partc.bundle.engines import Candidate, decide
from partc.errors import BundleError, TargetError
from partc.ir.engine import EngineEntry, EngineFile, EngineRecipe, Gpu, ShapeRange

ORIN = Gpu(
    flavour="tensorrt", version="10.3.0.30", compute_capability="8.7",
    platform="linux-aarch64-tegra", name="Orin",
)  # fmt: skip
RECIPE = EngineRecipe(flavour="tensorrt")


def entry_of(recipe: EngineRecipe = RECIPE, segment: str = "a" * 64) -> EngineEntry:
    return EngineEntry(recipe=recipe, segment_sha256=segment, state="build_on_target")


def candidate(entry: EngineEntry, gpu: Gpu, problem: str = "") -> Candidate:
    file = EngineFile(key=entry.key_for(gpu), path="e", sha256="b" * 64, size_bytes=1)
    return Candidate(file, Path("e"), problem)


def writing(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def with_(gpu: Gpu, **changes: Any) -> Gpu:
    return gpu.model_copy(update=changes)


def test_an_exact_match_is_taken() -> None:
    entry = entry_of()
    fitting = candidate(entry, ORIN)
    decision = decide(entry, ORIN, [candidate(entry, with_(ORIN, version="10.4.0.1")), fitting])
    assert (decision.action, decision.engine, decision.reason) == ("take", fitting, "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "10.3.0.26"}, "built by the older version 10.3.0.26"),
        ({"version": "10.16.1.11"}, "built by the newer version 10.16.1.11"),
        ({"compute_capability": "7.2"}, "built for compute capability 7.2"),
        ({"platform": "linux-x86_64"}, "built for linux-x86_64 and this is linux-aarch64-tegra"),
    ],
)
def test_another_machines_engine_is_not_taken(changes: dict[str, str], sentence: str) -> None:
    entry = entry_of()
    decision = decide(entry, ORIN, [candidate(entry, with_(ORIN, **changes))])
    assert decision.action == "build"
    assert decision.engine is None
    assert sentence in decision.reason


def test_another_segments_or_recipes_engine_is_not_taken() -> None:
    entry = entry_of()
    other = candidate(entry_of(segment="c" * 64), ORIN)
    assert "another version of the segment" in decide(entry, ORIN, [other]).reason
    other = candidate(entry_of(RECIPE.model_copy(update={"optimization_level": 5})), ORIN)
    assert "another recipe" in decide(entry, ORIN, [other]).reason


def test_the_two_formats_are_never_mixed_up() -> None:
    rtx = with_(ORIN, flavour="tensorrt_rtx")
    entry = entry_of()
    assert decide(entry, rtx, [candidate(entry, ORIN)]).action == "fall_back"
    on_rtx = entry_of(EngineRecipe(flavour="tensorrt_rtx"))
    renamed = candidate(on_rtx, rtx)
    assert decide(on_rtx, rtx, [renamed]).action == "take"
    assert decide(entry, ORIN, [renamed]).action == "build"


def test_a_broken_file_is_built_again_and_said() -> None:
    entry = entry_of()
    broken = candidate(entry, ORIN, "its file has 3 bytes and should have 9")
    decision = decide(entry, ORIN, [broken])
    assert decision.action == "build"
    assert "its file has 3 bytes and should have 9" in decision.reason


def test_without_a_gpu_or_leave_to_build_it_falls_back() -> None:
    entry = entry_of()
    decision = decide(entry, None, [candidate(entry, ORIN)], no_gpu="no driver")
    assert (decision.action, decision.reason) == ("fall_back", "no driver")
    decision = decide(entry, ORIN, [], no_build="build it with partc build")
    assert decision.action == "fall_back"
    assert decision.reason == "there is no engine yet; build it with partc build"


def test_version_compatible_engines_run_on_newer_versions_alone() -> None:
    entry = entry_of(RECIPE.model_copy(update={"version_compatible": True}))
    for version, action in (("10.2.0.19", "take"), ("10.9.0.1", "build"), ("11.4.0.106", "build")):
        made = candidate(entry, with_(ORIN, version=version))
        assert decide(entry, ORIN, [made]).action == action, version
    eleven = with_(ORIN, version="11.4.0.106")
    assert decide(entry, eleven, [candidate(entry, ORIN)]).action == "take"


def test_versions_are_compared_as_numbers() -> None:
    entry = entry_of(RECIPE.model_copy(update={"version_compatible": True}))
    here = with_(ORIN, version="10.16.1.11")
    assert decide(entry, here, [candidate(entry, with_(ORIN, version="10.3.0"))]).action == "take"


def test_hardware_compatible_engines_run_from_ampere_on() -> None:
    entry = entry_of(RECIPE.model_copy(update={"hardware_compatibility": "ampere_plus"}))
    made = candidate(entry, with_(ORIN, compute_capability="8.0"))
    assert decide(entry, with_(ORIN, compute_capability="12.0"), [made]).action == "take"
    assert decide(entry, with_(ORIN, compute_capability="7.5"), [made]).action == "build"


def test_recipes_differ_by_everything_in_them() -> None:
    shapes = {"x": ShapeRange(min=[1], opt=[2], max=[4])}
    recipes = [
        RECIPE,
        EngineRecipe(flavour="tensorrt_rtx"),
        *(
            RECIPE.model_copy(update=change)
            for change in (
                {"hardware_compatibility": "ampere_plus"}, {"version_compatible": True},
                {"dla_core": 0}, {"dla_core": 1}, {"workspace_mib": 64},
                {"optimization_level": 1}, {"shapes": shapes},
            )
        ),
    ]  # fmt: skip
    assert len({recipe.sha256 for recipe in recipes}) == len(recipes)


class TestStore:
    @pytest.fixture
    def store(self, tmp_path: Path) -> EngineStore:
        return EngineStore(tmp_path / "engines")

    def test_what_was_kept_is_found_again(self, store: EngineStore) -> None:
        entry = entry_of()
        kept = store.put(entry, ORIN, writing(b"engine"))
        assert kept.path.read_bytes() == b"engine"
        assert decide(entry, ORIN, store.find(entry)).engine == kept
        assert store.find(entry_of(segment="d" * 64)) == []

    def test_engines_of_several_machines_lie_side_by_side(self, store: EngineStore) -> None:
        entry = entry_of()
        for gpu in (ORIN, with_(ORIN, version="10.4.0.1"), with_(ORIN, compute_capability="7.2")):
            store.put(entry, gpu, writing(b"engine"))
        assert len(store.find(entry)) == 3
        taken = decide(entry, ORIN, store.find(entry)).engine
        assert taken is not None and taken.file.key == entry.key_for(ORIN)

    def test_a_second_build_replaces_the_first(self, store: EngineStore) -> None:
        entry = entry_of()
        for data in (b"one", b"another"):
            store.put(entry, ORIN, writing(data))
        (found,) = store.find(entry)
        assert found.path.read_bytes() == b"another"

    @pytest.mark.parametrize(
        ("damage", "sentence"),
        [
            (lambda path: path.write_bytes(b"engin"), "has 5 bytes and should have 6"),
            (lambda path: path.write_bytes(b"enginE"), "was changed after it was built"),
            (lambda path: path.unlink(), "its file is missing"),
            (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "its file is missing"),
        ],
    )
    def test_damaged_engines_are_built_again(
        self, store: EngineStore, damage: Any, sentence: str
    ) -> None:
        entry = entry_of()
        damage(store.put(entry, ORIN, writing(b"engine")).path)
        decision = decide(entry, ORIN, store.find(entry))
        assert decision.action == "build"
        assert sentence in decision.reason

    @pytest.mark.parametrize("text", ["", "{}", "[]", "{" * 5000, '{"key": 1}'])
    def test_a_description_that_is_none_counts_as_no_engine(
        self, store: EngineStore, text: str
    ) -> None:
        entry = entry_of()
        kept = store.put(entry, ORIN, writing(b"engine"))
        (kept.path.parent / "engine.json").write_text(text)
        assert store.find(entry) == []

    def test_an_engine_under_another_ones_key_is_not_taken(self, store: EngineStore) -> None:
        entry = entry_of()
        old = store.put(entry, with_(ORIN, version="10.2.0.1"), writing(b"e"))
        description = old.path.parent / "engine.json"
        data = json.loads(description.read_text())
        data["key"]["version"] = ORIN.version
        description.write_text(json.dumps(data))
        decision = decide(entry, ORIN, store.find(entry))
        assert decision.action == "build"
        assert "its description is of another engine" in decision.reason

    def test_a_build_that_fails_leaves_nothing(self, store: EngineStore) -> None:
        def fails(path: Path) -> None:
            path.write_bytes(b"half")
            raise TargetError("no")

        with pytest.raises(TargetError):
            store.put(entry_of(), ORIN, fails)
        assert not [path for path in store.root.rglob("*") if path.is_file()]

    def test_a_full_disk_is_said_and_leaves_nothing(self, store: EngineStore) -> None:
        def full(path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(BundleError, match=r"disk is full.*PARTC_ENGINES"):
            store.put(entry_of(), ORIN, full)
        assert not [path for path in store.root.rglob("*") if path.is_file()]

    def test_a_folder_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        store = EngineStore(tmp_path / "file" / "engines")
        with pytest.raises(BundleError, match="name another folder in PARTC_ENGINES"):
            store.put(entry_of(), ORIN, lambda path: None)
        assert store.find(entry_of()) == []

    def test_a_build_that_is_killed_is_not_taken_and_is_swept_away(
        self, store: EngineStore
    ) -> None:
        entry = entry_of()
        script = f"""
            import sys, time
            from pathlib import Path
            from partc.bundle.engine_store import EngineStore
            from tests.bundle.test_engines import ORIN, entry_of
            def write(path):
                path.write_bytes(b"half an engine")
                print("writing", flush=True)
                time.sleep(60)
            EngineStore(Path({str(store.root)!r})).put(entry_of(), ORIN, write)
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert [path for path in store.root.rglob("*") if path.is_file()]
        decision = decide(entry, ORIN, store.find(entry))
        assert (decision.action, decision.reason) == ("build", "there is no engine yet")
        store.put(entry, ORIN, writing(b"engine"))
        assert len([path for path in store.root.rglob("*") if path.is_file()]) == 2

    def test_a_build_that_goes_on_beside_is_left_alone(self, store: EngineStore) -> None:
        entry = entry_of()

        def nested(path: Path) -> None:
            path.write_bytes(b"outer")
            store.put(entry, ORIN, writing(b"inner"))

        kept = store.put(entry, ORIN, nested)
        assert kept.path.read_bytes() == b"outer"

    def test_timing_caches_are_kept_for_each_machine(self, store: EngineStore) -> None:
        gpus = (ORIN, with_(ORIN, version="10.4.0.1"), with_(ORIN, name="Orin Nano"))
        assert len({store.timing_cache(gpu) for gpu in gpus}) == 3
