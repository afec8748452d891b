"""Which provider runs the ONNX of a segment that has no engine, and what is kept of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import onnxruntime as ort
import pytest

from partc.errors import BundleError, MissingBackendError, TargetError
from partc.runtime.onnx_fallback import (
    CPU,
    GPU_PROVIDERS,
    expected_provider,
    open_onnx,
    refusals_told,
)
from partc.targets.onnxruntime import OnnxRuntimeBackend
from partc.targets.protocol import Detection, Runner, RunSettings
from partc.targets.registry import load_backend
from tests.support.nasty_models import parsed

TENSORRT, CUDA = GPU_PROVIDERS
HERE = [each for each in GPU_PROVIDERS if each in ort.get_available_providers()]
X = {"x": np.array([-1, 2], np.float32)}


class Machine(OnnxRuntimeBackend):
    """A machine with GPU providers, each of which refuses in a way of its own, or does its work.

    Args:
        refuses: provider -> the error that it raises when it is opened; None to open.
        factors: provider -> by what its answers are wrong.
    """

    def __init__(
        self, refuses: dict[str, Exception | None], factors: dict[str, float] | None = None
    ) -> None:
        self.refuses = refuses
        self.factors = factors or {}
        self.asked: list[str] = []
        self.closed: list[str] = []

    def detect_provider(self, provider: str) -> Detection:
        is_here = provider in self.refuses
        return Detection(is_here, "" if is_here else f"this one has no {provider}", "", "")

    def runner(self, model: bytes | Path, settings: RunSettings) -> Runner:
        self.asked.append(settings.provider)
        if error := self.refuses.get(settings.provider):
            raise error
        runner = super().runner(model, RunSettings())
        return cast(Runner, _Runner(runner, self, settings.provider))


class _Runner:
    def __init__(self, runner: Runner, machine: Machine, provider: str) -> None:
        self._runner, self._machine, self._provider = runner, machine, provider

    def run(self, feeds: Any) -> Any:
        factor = self._machine.factors.get(self._provider, 1.0)
        outputs: dict[str, Any] = dict(self._runner.run(feeds))
        return {name: value * factor for name, value in outputs.items()}

    def close(self) -> None:
        self._machine.closed.append(self._provider)
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    graph = "g (float[2] x) => (float[2] y) {y = Relu(x)}"
    path.write_bytes(parsed(graph, {}).model.SerializeToString())
    return path


def right(runner: Runner) -> None:
    if not np.array_equal(runner.run(X)["y"], [0, 2]):
        raise TargetError("it gives another 'y' than the model")


def anything(runner: Runner) -> None:
    pass


@pytest.mark.parametrize(
    "error",
    [
        MissingBackendError("CUDAExecutionProvider did not start"),
        TargetError("ONNX Runtime cannot load the model: CUDA failure 2: out of memory"),
        TargetError("ONNX Runtime cannot load the model: no kernel for Einsum"),
    ],
)
def test_a_provider_that_refuses_the_model_gives_way_to_the_next(
    model: Path, error: TargetError
) -> None:
    machine = Machine({TENSORRT: error, CUDA: error})
    opened = open_onnx(machine, model, RunSettings(), right)
    assert opened.provider == CPU
    assert machine.asked == [TENSORRT, CUDA, ""]
    assert [(each.provider, each.reason) for each in opened.refusals] == [
        (TENSORRT, str(error)), (CUDA, str(error)),
    ]  # fmt: skip
    np.testing.assert_array_equal(opened.runner.run(X)["y"], [0, 2])


def test_the_first_that_does_is_taken(model: Path) -> None:
    machine = Machine({TENSORRT: None, CUDA: None})
    assert open_onnx(machine, model, RunSettings(), right).provider == TENSORRT
    assert machine.asked == [TENSORRT]
    machine = Machine({CUDA: None})
    opened = open_onnx(machine, model, RunSettings(), right)
    assert (opened.provider, machine.asked) == (CUDA, [CUDA])
    assert [each.is_absent for each in opened.refusals] == [True]


def test_a_gpu_that_gives_other_answers_is_passed_over(model: Path) -> None:
    """An engine that was refused for them must not go on under another name."""
    machine = Machine({TENSORRT: None, CUDA: None}, {TENSORRT: 1.5})
    opened = open_onnx(machine, model, RunSettings(), right)
    assert opened.provider == CUDA
    assert machine.closed == [TENSORRT]
    assert refusals_told(opened.refusals, all_of_them=False) == [
        "TensorrtExecutionProvider: it gives another 'y' than the model"
    ]
    machine = Machine({TENSORRT: None, CUDA: None}, {TENSORRT: 1.5, CUDA: 1.5, "": 1.5})
    assert open_onnx(machine, model, RunSettings(), right).provider == CPU  # the measure of it


def test_where_it_cannot_be_tested_no_gpu_is_trusted(model: Path) -> None:
    def lost(runner: Runner) -> None:
        raise BundleError("its golden pair was changed")

    opened = open_onnx(Machine({CUDA: None}), model, RunSettings(), lost)
    assert (opened.provider, opened.refusals[-1].reason) == (CPU, "its golden pair was changed")


def test_an_interrupt_is_no_refusal(model: Path) -> None:
    def interrupted(runner: Runner) -> None:
        raise KeyboardInterrupt

    machine = Machine({TENSORRT: None})
    with pytest.raises(KeyboardInterrupt):
        open_onnx(machine, model, RunSettings(), interrupted)
    assert machine.closed == [TENSORRT]


def test_where_none_does_all_reasons_are_said(model: Path) -> None:
    machine = Machine({CUDA: TargetError("out of memory"), "": TargetError("no such op")})
    with pytest.raises(
        TargetError, match="CUDAExecutionProvider: out of memory; CPUExecutionProvider: no such op"
    ):
        open_onnx(machine, model, RunSettings(), right)


def test_how_to_get_a_provider_is_said_where_a_gpu_would_run_it(model: Path) -> None:
    opened = open_onnx(Machine({}), model, RunSettings(), right)
    assert refusals_told(opened.refusals, all_of_them=False) == []
    assert refusals_told(opened.refusals, all_of_them=True) == [
        f"this one has no {each}" for each in GPU_PROVIDERS
    ]


@pytest.mark.parametrize(
    ("refuses", "provider"),
    [
        ({}, CPU),
        ({CUDA: None}, CUDA),
        ({TENSORRT: MissingBackendError("it did not start"), CUDA: None}, CUDA),
        ({TENSORRT: TargetError("out of memory"), CUDA: TargetError("out of memory")}, CPU),
        ({TENSORRT: None, CUDA: None}, TENSORRT),
    ],
)
def test_what_is_expected_is_what_starts(
    refuses: dict[str, Exception | None], provider: str
) -> None:
    machine = Machine(refuses)
    found = expected_provider(machine)
    assert found.provider == provider
    assert {each.provider for each in found.refusals} == {
        each for each in GPU_PROVIDERS if each != provider and not (
            provider == TENSORRT and each == CUDA
        )
    }  # fmt: skip


@pytest.mark.skipif(bool(HERE), reason="this onnxruntime has providers for GPUs")
def test_the_onnxruntime_that_is_here(model: Path) -> None:
    backend = load_backend("onnxruntime")
    assert expected_provider(backend).provider == CPU
    opened = open_onnx(backend, model, RunSettings(), right)
    assert opened.provider == CPU
    assert all("onnxruntime-gpu" in each.reason for each in opened.refusals)
    assert all(each.is_absent for each in opened.refusals)


@pytest.mark.skipif(not HERE, reason="this onnxruntime has no provider for a GPU")
@pytest.mark.parametrize("check", [right, anything])
def test_the_gpu_that_is_here(model: Path, check: Callable[[Runner], None]) -> None:
    backend = load_backend("onnxruntime")
    opened = open_onnx(backend, model, RunSettings(), check)
    assert opened.provider == expected_provider(backend).provider
    np.testing.assert_array_equal(opened.runner.run(X)["y"], [0, 2])
