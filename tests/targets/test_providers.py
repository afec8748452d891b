"""ONNX Runtime's execution providers: one that is not here, or fell back, is an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from partc.errors import MissingBackendError, TargetError
from partc.ir.topology import Host
from partc.targets.here import detect, detect_here, meter_here
from partc.targets.onnxruntime import providers
from partc.targets.onnxruntime.detect import detect as detect_provider
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend, load_target
from partc.targets.settings import run_settings
from tests.support.nasty_models import parsed

BACKEND = load_backend("onnxruntime")
GRAPH = "g (float[2] x) => (float[2] y) {y = Relu(x)}"
DATA = parsed(GRAPH, {}).model.SerializeToString()
HERE = set(ort.get_available_providers())
PRESETS = {
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
    "onnxruntime-openvino": "OpenVINOExecutionProvider",
    "onnxruntime-coreml": "CoreMLExecutionProvider",
}
COREML = "CoreMLExecutionProvider"  # never here: partc runs on Linux


def run(settings: RunSettings) -> None:
    with BACKEND.runner(DATA, settings) as runner:
        found = runner.run({"x": np.array([-1, 2], np.float32)})
    np.testing.assert_array_equal(found["y"], np.array([0, 2], np.float32))


def test_the_processor_runs_with_or_without_being_named() -> None:
    run(RunSettings())
    run(RunSettings(provider=providers.CPU))
    run(RunSettings(provider=providers.CPU, provider_options=(("use_arena", "0"),)))


def test_any_provider_that_is_here_runs() -> None:
    for provider in HERE:
        run(RunSettings(provider=provider))


@pytest.mark.skipif(COREML in HERE, reason="a machine that has CoreML")
def test_a_provider_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(MissingBackendError, match=r"has no CoreMLExecutionProvider: .*macOS"):
        run(RunSettings(provider=COREML))
    assert not detect_provider(COREML).available


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_say_what_is_missing(preset: str) -> None:
    target = load_target(preset)
    assert target.provider == PRESETS[preset]
    found = detect(target)
    assert found.available == (target.provider in HERE)
    if not found.available:
        assert "install" in found.reason or "macOS" in found.reason
        with pytest.raises(MissingBackendError, match=target.provider):
            meter_here(target)


def test_an_unknown_provider_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="Did you mean 'CUDAExecutionProvider'"):
        run(RunSettings(provider="CUDAExecutionProvidr"))
    path = tmp_path / "mine.toml"
    path.write_text('backend = "onnxruntime"\nprovider = "CUDAExecutionProvidr"\n')
    with pytest.raises(TargetError, match="Did you mean"):
        detect_here(load_target(str(path)))


class FellBack:
    """What ONNX Runtime gives where a provider's libraries do not load."""

    def get_providers(self) -> list[str]:
        return [providers.CPU]


def test_a_provider_is_here_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {each: providers.why_not_started(each) for each in HERE} == dict.fromkeys(HERE, "")

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("libcudart.so.12: no such file\nmore")

    built_in = "CUDAExecutionProvider"
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*HERE, built_in])
    for session in (lambda *arguments, **options: FellBack(), refuse):
        monkeypatch.setattr(ort, "InferenceSession", session)
        providers.why_not_started.cache_clear()
        found = detect_provider(built_in)
        assert not found.available and f"{built_in} did not start" in found.reason
        assert "\n" not in found.reason
    providers.why_not_started.cache_clear()


def test_a_provider_that_fell_back_is_an_error() -> None:
    with pytest.raises(MissingBackendError, match=r"fell back to CPU.*onnxruntime-gpu"):
        providers.refuse_fallback(FellBack(), RunSettings(provider="CUDAExecutionProvider"))
    providers.refuse_fallback(FellBack(), RunSettings())


def test_what_tensorrt_leaves_out_stays_on_the_gpu_where_cuda_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = [providers.TENSORRT, providers.CUDA, providers.CPU]
    monkeypatch.setattr(ort, "get_available_providers", lambda: here)
    options = (("device_id", "1"), ("trt_fp16_enable", "1"))
    settings = RunSettings(provider=providers.TENSORRT, provider_options=options)
    assert providers.as_asked(settings) == [
        (providers.TENSORRT, dict(options)), (providers.CUDA, {"device_id": "1"}), providers.CPU,
    ]  # fmt: skip
    cuda = RunSettings(provider=providers.CUDA)
    assert providers.as_asked(cuda) == [(providers.CUDA, {}), providers.CPU]
    here.remove(providers.CUDA)
    assert providers.as_asked(settings) == [(providers.TENSORRT, dict(options)), providers.CPU]


def test_costs_of_providers_are_kept_apart() -> None:
    plain, cuda = RunSettings(), RunSettings(provider="CUDAExecutionProvider")
    tuned = RunSettings(provider="CUDAExecutionProvider", provider_options=(("device_id", "1"),))
    assert len({plain.key, cuda.key, tuned.key}) == len({plain, cuda, tuned}) == 3
    assert detect_provider().fingerprint != detect_provider("CUDAExecutionProvider").fingerprint


def test_a_target_decides_the_provider_and_its_options(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    path.write_text(
        'backend = "onnxruntime"\nprovider = "CUDAExecutionProvider"\n'
        "[provider_options]\ndevice_id = 1\n"
    )
    settings = run_settings(Host.model_validate(json.loads(json.dumps({"target": str(path)}))))
    assert settings.provider == "CUDAExecutionProvider"
    assert settings.provider_options == (("device_id", "1"),)


def test_only_the_processor_computes_in_the_caller() -> None:
    assert providers.clock_for(RunSettings()) == "caller"
    assert providers.clock_for(RunSettings(provider="CUDAExecutionProvider")) == "wall"
