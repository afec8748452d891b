"""What may be measured on this machine, and what stands for other hardware."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from partc.errors import MissingBackendError, TargetError
from partc.targets import machine
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.here import detect, detect_here, meter_here, why_other_hardware
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import Target, load_target
from tests.support.nasty_models import parsed

CHAIN = "g (float[2,3] x) => (float[2,3] y) {a = Relu(x) b = com.acme.Foo(a) y = Neg(b)}"


def written(folder: Path, text: str) -> Target:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_target(str(path))


def named(graph: str) -> onnx.ModelProto:
    model = parsed(graph, {}, **{"com.acme": 1}).model
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return model


def model() -> onnx.ModelProto:
    return named("g (float[2,3] x) => (float[2,3] y) {a = Conv(x, x) b = Erf(a) y = Relu(b)}")


def test_the_processor_that_is_here_is_measured() -> None:
    target = load_target("onnxruntime-cpu")
    assert detect_here(target).available
    assert isinstance(meter_here(target), LocalMeter)


@pytest.mark.parametrize("name", ["raspberry-pi-5", "jetson-nano", "google-edge-tpu", "x86-cpu"])
def test_other_hardware_is_known_by_its_data_sheet(name: str) -> None:
    target = load_target(name)
    found = detect_here(target)
    assert not found.available and found.reason
    meter = meter_here(target)
    assert isinstance(meter, DataSheetMeter)
    assert not meter.detect().available
    figures = "typical figures" if name == "x86-cpu" else "data sheet"
    assert meter.where == f"the {figures} of {name}"
    with pytest.raises(MissingBackendError, match=f"{name}.*cannot be measured here"):
        meter.profile(model(), {}, RunSettings(), Sampling())
    with pytest.raises(MissingBackendError, match="let them be estimated"):
        meter.run_times(model(), {}, RunSettings(), Sampling())


@pytest.mark.parametrize(
    ("name", "machine_name"),
    [
        ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0"),
        ("jetson-orin-nx", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"),
        ("jetson-nano", "NVIDIA Jetson Nano Developer Kit"),
        ("gtx-1080", "NVIDIA GeForce GTX 1080"),
        ("h200", "NVIDIA H200"),
    ],
)
def test_hardware_is_recognised_by_a_name(name: str, machine_name: str) -> None:
    target = load_target(name)
    assert why_other_hardware(target, [machine_name]) == ""
    assert why_other_hardware(target, ["some CPU", machine_name.upper()]) == ""
    said = why_other_hardware(target, ["AMD EPYC"])
    assert said.startswith("this machine is AMD EPYC, and not ")
    assert why_other_hardware(target, [])


def test_a_typical_machine_is_nowhere() -> None:
    assert "stands for" in why_other_hardware(load_target("arm-cpu"), ["four Cortex-A72"])


def test_a_backend_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    target = written(tmp_path, 'backend = "acme"\nmissing = "ask acme"\n')
    assert detect(target).reason == "no backend named 'acme' is installed: ask acme"
    with pytest.raises(MissingBackendError, match="ask acme"):
        meter_here(target)


def test_a_mistyped_backend_is_suggested(tmp_path: Path) -> None:
    target = written(tmp_path, 'backend = "onnxruntim"\n')
    with pytest.raises(TargetError, match="Did you mean 'onnxruntime'"):
        meter_here(target)


def test_ops_that_the_data_sheet_does_not_list_are_refused() -> None:
    meter = meter_here(load_target("google-edge-tpu"))
    refused = meter.unsupported(model())
    assert refused == {"n1": "the data sheet of google-edge-tpu lists no op 'Erf'"}


def test_a_data_sheet_without_ops_leaves_the_answer_to_the_backend() -> None:
    refused = meter_here(load_target("raspberry-pi-5")).unsupported(named(CHAIN))
    assert refused == {"n1": "ONNX Runtime has no op 'Foo' in domain 'com.acme'"}


def test_a_provider_of_a_backend_without_providers(tmp_path: Path) -> None:
    target = written(tmp_path, 'backend = "openvino"\nprovider = "GPU"\n')
    with pytest.raises(TargetError, match="has no execution providers"):
        detect(target)


def test_names_of_gpus_come_from_the_driver_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'NVIDIA H200\\nNVIDIA H200\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine._from_program() == ("NVIDIA H200", "NVIDIA H200")
    program.write_text("#!/bin/sh\necho 'no devices were found'\nexit 9\n")
    assert machine._from_program() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert machine._from_program() == ()
