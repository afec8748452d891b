"""Engines that are built for measuring take the shapes that they are run with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from partc.errors import MissingBackendError, TargetError
from partc.ir.engine import EngineRecipe
from partc.targets.loading import open_model
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.tensorrt import immediate, profiler
from partc.targets.tensorrt.backend import TensorRtBackend
from partc.targets.tensorrt.detect import Machine
from partc.targets.tensorrt.runner import EngineRunner
from tests.targets.tensorrt.fake_gpu import (
    FAKE_GPU,
    LAYER_S,
    FakeBuilds,
    FakeCuda,
    FakeLibrary,
)
from tests.targets.tensorrt.test_runner import check, feeds, model

QUICKLY = Sampling(repeats=3, pause_s=0.0, budget_s=0.0, pinned=False)


class Bench:
    """The backend as it is, on a driver and a builder that are not there."""

    def __init__(self) -> None:
        self.cuda = FakeCuda()
        self.builds = FakeBuilds()
        self.library = cast(Any, FakeLibrary(None, self.cuda))
        self.backend = TensorRtBackend(self.library)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    made = Bench()
    here = Machine(FAKE_GPU.version, FAKE_GPU.platform, FAKE_GPU, "")

    def runner(library: Any, engine: Path, recipe: EngineRecipe, **more: Any) -> EngineRunner:
        driver: Any = made.cuda
        return EngineRunner(library, engine, recipe, driver, **more)

    monkeypatch.setenv("PARTC_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr(immediate, "build", made.builds)
    monkeypatch.setattr(immediate, "EngineRunner", runner)
    for module in (immediate, profiler):
        monkeypatch.setattr(module, "machine_of", lambda flavour: here)
    yield made
    assert made.cuda.memory == {}


def shapes_built(bench: Bench) -> list[list[int]]:
    return [recipe.shapes["x"].opt for recipe in bench.builds.recipes]


def test_fixed_dimensions_are_built_at_once(bench: Bench) -> None:
    with open_model(model(), bench.backend) as runner:
        assert len(bench.builds.recipes) == 1
        assert bench.builds.recipes[0].shapes == {}
        check(runner, feeds())


def test_open_dimensions_are_built_for_the_first_run_and_again_for_others(bench: Bench) -> None:
    with open_model(model("N"), bench.backend) as runner:
        assert (runner.input_names, runner.output_names) == (("x", "z"), ("y", "w"))
        assert bench.builds.recipes == []
        for batch in (3, 3, 5):
            check(runner, feeds(batch))
        assert shapes_built(bench) == [[3, 3], [5, 3]]
        with pytest.raises(TargetError, match="needs tensor 'z', which was not given"):
            runner.run({"x": feeds(3)["x"]})
        check(runner, feeds(5))
    with pytest.raises(TargetError, match="closed"):
        runner.run(feeds(5))


def test_a_file_with_open_dimensions(bench: Bench, tmp_path: Path) -> None:
    onnx.save(model("N"), tmp_path / "model.onnx")
    with bench.backend.runner(tmp_path / "model.onnx", RunSettings()) as runner:
        check(runner, feeds(7))
    assert shapes_built(bench) == [[7, 3]]


def test_a_planned_size_other_than_one_is_measured(bench: Bench) -> None:
    """As refining a plan measures segments: the whole and its parts in turn."""
    meter = LocalMeter(bench.backend)
    jobs = [(model("N"), feeds(6)), (model("N"), feeds(2))]
    rows = meter.interleaved_times(jobs, RunSettings(), QUICKLY)
    assert [len(row) >= 3 for row in rows] == [True, True]
    assert len(meter.measure_runs(model("N"), feeds(4), RunSettings(), QUICKLY).samples_s) >= 3
    assert shapes_built(bench) == [[6, 3], [2, 3], [4, 3]]


def test_a_profile_of_a_planned_size_other_than_one(bench: Bench) -> None:
    given = model("N")
    for number, node in enumerate(given.graph.node):
        node.name = f"{node.op_type}_{number}"
    found = bench.backend.profile(given, feeds(6), RunSettings(), QUICKLY)
    assert shapes_built(bench) == [[6, 3], [6, 3]]
    assert set(found.op_s) == {"Add_0", "Neg_1"}
    assert all(row == pytest.approx([LAYER_S] * len(row)) for row in found.op_s.values())
    assert len(found.whole_s) == 3


def test_what_was_timed_is_kept_for_the_next_engine(bench: Bench, tmp_path: Path) -> None:
    bench.backend.profile(model(), feeds(), RunSettings(), QUICKLY)
    with open_model(model("N"), bench.backend) as runner:
        runner.run(feeds())
    (cache,) = set(bench.builds.timing_caches)
    assert cache is not None
    assert cache.parent == tmp_path / "engines" / "timings"


def test_a_folder_that_cannot_be_made_costs_time_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PARTC_ENGINES", str(tmp_path / "file"))
    with open_model(model(), bench.backend) as runner:
        check(runner, feeds())
    assert bench.builds.timing_caches == [None]


def test_no_gpu_is_said_before_the_first_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Machine("10.3.0.30", "linux-x86_64", None, "no GPU today")
    monkeypatch.setattr(immediate, "machine_of", lambda flavour: nothing)
    for batch in ("2", "N"):
        with pytest.raises(MissingBackendError, match="no GPU today"):
            bench.backend.runner(model(batch).SerializeToString(), RunSettings())


@pytest.mark.parametrize("data", [b"no model", b"\x08"])
def test_what_is_no_model(bench: Bench, data: bytes) -> None:
    with pytest.raises(TargetError, match="is no ONNX model"):
        bench.backend.runner(data, RunSettings())


def test_an_input_that_is_a_weight_is_not_open(bench: Bench) -> None:
    given = model("N")
    weight = np.ones((2, 3), np.float32)
    given.graph.initializer.append(onnx.numpy_helper.from_array(weight, "z"))
    with open_model(given, bench.backend) as runner:
        assert runner.input_names == ("x",)
