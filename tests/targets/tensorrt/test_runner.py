"""The runner's order of things, on a driver and an engine that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from partc.errors import TargetError
from partc.ir.engine import EngineRecipe
from partc.targets.protocol import Runner
from partc.targets.tensorrt.inspector import read_layers
from partc.targets.tensorrt.runner import EngineRunner
from tests.support.nasty_models import floats
from tests.targets.tensorrt.fake_gpu import LAYER_S, FakeCuda, FakeLibrary

RECIPE = EngineRecipe(flavour="tensorrt")


def named(batch: str = "2") -> onnx.ModelProto:
    found = model(batch)
    for number, node in enumerate(found.graph.node):
        node.name = f"{node.op_type}_{number}"
    return found


def model(batch: str = "2") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[{batch},3] x, float[{batch},3] z) => (float[{batch},3] y, float[{batch},3] w)
        {{y = Add(x, z) w = Neg(y)}}"""
    )


def opened(cuda: FakeCuda, batch: str = "2") -> EngineRunner:
    library: Any = FakeLibrary(named(batch), cuda)
    driver: Any = cuda
    return EngineRunner(library, b"engine", RECIPE, driver)


def feeds(batch: int = 2, seed: int = 0) -> dict[str, Any]:
    return {"x": floats(batch, 3, seed=seed), "z": floats(batch, 3, seed=seed + 1)}


def check(runner: Runner, given: dict[str, Any]) -> None:
    found = runner.run(given)
    np.testing.assert_array_equal(found["y"], given["x"] + given["z"])
    np.testing.assert_array_equal(found["w"], -(given["x"] + given["z"]))


def test_copies_stand_around_the_work_in_one_stream() -> None:
    cuda = FakeCuda()
    with opened(cuda) as runner:
        assert (runner.input_names, runner.output_names) == (("x", "z"), ("y", "w"))
        check(runner, feeds())
    assert cuda.calls[:6] == ["use", "to_device", "to_device", "execute", "to_host", "to_host"]


def test_memory_is_used_again_and_given_back() -> None:
    cuda = FakeCuda()
    with opened(cuda) as runner:
        for seed in range(5):
            check(runner, feeds(seed=seed))
        assert cuda.allocations == 8  # four tensors, on both sides
    assert (cuda.memory, cuda.streams, cuda.graphs) == ({}, set(), {})
    assert cuda.closed


def test_fixed_shapes_are_recorded_once_and_replayed() -> None:
    cuda = FakeCuda()
    with opened(cuda) as runner:
        for seed in range(4):
            check(runner, feeds(seed=seed))
    assert cuda.calls.count("begin_capture") == 1
    assert cuda.calls.count("launch") == 3
    assert cuda.calls.count("execute") == 2


def test_an_engine_that_cannot_be_recorded_runs_all_the_same() -> None:
    cuda = FakeCuda(records=False)
    with opened(cuda) as runner:
        for seed in range(4):
            check(runner, feeds(seed=seed))
    assert cuda.calls.count("begin_capture") == 1
    assert cuda.calls.count("launch") == 0


def test_answers_are_not_overwritten_by_the_next_request() -> None:
    with opened(FakeCuda()) as runner:
        first = runner.run(feeds(seed=0))["y"]
        before = first.copy()
        runner.run(feeds(seed=9))
        np.testing.assert_array_equal(first, before)


def test_open_shapes_grow_memory_and_are_not_recorded() -> None:
    cuda = FakeCuda()
    with opened(cuda, "N") as runner:
        for batch in (1, 4, 2, 3):
            check(runner, feeds(batch, seed=batch))
        assert cuda.allocations == 16
        with pytest.raises(TargetError, match=r"takes \(1, 3\) to \(4, 3\)"):
            runner.run(feeds(5))
        check(runner, feeds(4))
    assert cuda.calls.count("begin_capture") == 0
    assert cuda.memory == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": None}, "needs tensor 'x'"),
        ({"x": np.zeros((2, 3))}, "is float64 and the engine takes float32"),
        ({"x": np.zeros((2, 4), np.float32)}, "has shape"),
        ({"x": np.zeros(3, np.float32)}, "has shape"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Any], sentence: str) -> None:
    with opened(FakeCuda()) as runner:
        given = {name: value for name, value in {**feeds(), **change}.items() if value is not None}
        with pytest.raises(TargetError, match=sentence):
            runner.run(given)
        check(runner, feeds())


def test_an_array_that_is_not_in_order_and_entries_too_many() -> None:
    with opened(FakeCuda()) as runner:
        given = feeds()
        given["x"] = np.asfortranarray(given["x"])
        check(runner, {**given, "more": np.zeros(1)})


def test_an_engine_that_does_not_load_frees_the_device() -> None:
    cuda: Any = FakeCuda()
    library: Any = FakeLibrary(None, cuda)
    with pytest.raises(TargetError, match="cannot load the engine"):
        EngineRunner(library, b"engine", RECIPE, cuda)
    assert cuda.closed


def test_a_closed_engine_says_so_and_closes_once() -> None:
    cuda = FakeCuda()
    runner = opened(cuda)
    runner.close()
    runner.close()
    with pytest.raises(TargetError, match="closed"):
        runner.run(feeds())


def test_a_run_with_the_profiler_tells_each_layer_and_its_time() -> None:
    cuda = FakeCuda()
    with opened(cuda, "N") as runner:
        for batch in (2, 3):  # each run tells of itself alone
            layers = runner.profiled_run(feeds(batch))
            assert layers == [("Add_0", LAYER_S), ("Neg_1", LAYER_S)]
        check(runner, feeds(2))
        assert [name for name, _ in runner.profiled_run(feeds(2))] == ["Add_0", "Neg_1"]
    assert cuda.calls.count("begin_capture") == cuda.calls.count("launch") == 0
    assert cuda.memory == {}


def test_the_profiler_refuses_tensors_and_closing_as_a_run_does() -> None:
    runner = opened(FakeCuda())
    with pytest.raises(TargetError, match="needs tensor 'x'"):
        runner.profiled_run({})
    runner.close()
    with pytest.raises(TargetError, match="closed"):
        runner.profiled_run(feeds())


def test_a_recorded_engine_is_profiled_without_its_graph() -> None:
    """A graph's layers are timed as one."""
    cuda = FakeCuda()
    with opened(cuda) as runner:
        for seed in range(3):
            check(runner, feeds(seed=seed))
        before = cuda.calls.count("launch")
        assert len(runner.profiled_run(feeds())) == 2
        assert cuda.calls.count("launch") == before
        assert cuda.calls[-4:] == ["to_device", "execute", "to_host", "to_host"]


def test_the_inspector_tells_the_layers() -> None:
    with opened(FakeCuda()) as runner:
        found = read_layers(runner.layer_information())
    assert found.names == ("Add_0", "Neg_1")
    assert set(found.tensors) == {"x", "z", "y", "w"}


@pytest.mark.parametrize("core", [None, 0, 1])
def test_the_accelerator_is_chosen_before_the_engine_is_read(core: int | None) -> None:
    cuda: Any = FakeCuda()
    library: Any = FakeLibrary(named(), cuda)
    with EngineRunner(library, b"engine", RECIPE.model_copy(update={"dla_core": core}), cuda):
        assert library.runtime.dla_core_of_reading == core
