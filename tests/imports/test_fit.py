"""A profile stands for a host that runs as the profiled program ran, and for no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from partc.errors import UsageError
from partc.imports.fit import HostSettings, files_by_host, require_fit
from partc.imports.imported import ImportedCosts, Kernel
from partc.measure.elsewhere import Elsewhere, costs_of_machine, other_settings_notice
from partc.measure.keys import CostKey
from partc.measure.store import CostStore
from tests.measure.workers import COST

SESSION = ImportedCosts(
    "onnxruntime", "p.json", (Kernel("a", (1.0,)),), 1, (), "CPUExecutionProvider", 4
)  # fmt: skip
ENGINE = ImportedCosts("trtexec", "e.json", (Kernel("a", (1.0,)),), 1)
CAMERA = HostSettings("camera", "onnxruntime-cpu", "onnxruntime", 4)


def test_what_fits() -> None:
    require_fit(SESSION, CAMERA)
    require_fit(replace(SESSION, threads=None), replace(CAMERA, threads=2))
    require_fit(ENGINE, HostSettings("nano", "jetson.toml", "tensorrt", 1))
    require_fit(ENGINE, replace(CAMERA, provider="TensorrtExecutionProvider"))
    require_fit(ENGINE, HostSettings("box", "toy", "somebodys-own", 1))


def test_another_number_of_threads_is_refused_with_the_command() -> None:
    with pytest.raises(UsageError) as caught:
        require_fit(SESSION, replace(CAMERA, threads=1), "m.onnx")
    said = caught.value.message
    assert "taken with 4 threads, and host 'camera' asks for 1" in said
    assert "partc profile m.onnx --target onnxruntime-cpu --threads 1" in said
    assert "threads = 4" in said


def test_another_backend_or_provider_is_refused() -> None:
    with pytest.raises(UsageError, match=r"says nothing of host 'camera'.*runs onnxruntime"):
        require_fit(ENGINE, CAMERA)
    with pytest.raises(UsageError, match="runs openvino"):
        require_fit(SESSION, replace(CAMERA, backend="openvino"))
    with pytest.raises(UsageError, match=r"ran on CUDAExecutionProvider.*CPUExecutionProvider"):
        require_fit(replace(SESSION, runtime="CUDAExecutionProvider"), CAMERA)


def test_files_name_their_host(tmp_path: Path) -> None:
    hosts = ["camera", "server"]
    assert files_by_host(["camera=a.json", "server=b", "camera=c=d"], hosts) == {
        "camera": [Path("a.json"), Path("c=d")],
        "server": [Path("b")],
    }
    assert files_by_host(["a.json"], ["only"]) == {"only": [Path("a.json")]}
    strange = tmp_path / "a=b.json"
    strange.write_text("")
    assert files_by_host([str(strange)], ["only"]) == {"only": [strange]}
    with pytest.raises(UsageError, match=r"whose costs.*HOST=a.json.*camera, server"):
        files_by_host(["a.json"], hosts)
    with pytest.raises(UsageError, match="Did you mean 'camera'"):
        files_by_host(["camra=a.json"], hosts)
    with pytest.raises(UsageError, match="names no file"):
        files_by_host(["camera="], hosts)


def test_stored_costs_of_other_threads_are_told_with_the_command(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    keys = [CostKey("block", f"{n:064x}", "cpu", "1|all", 50.0) for n in range(3)]
    store.add({str(replace(key, settings="4|all")): COST for key in keys[:2]})
    store.add({str(replace(key, fingerprint="gpu")): COST for key in keys})
    said = other_settings_notice(store, map(str, keys), "partc profile m.onnx --threads 1")
    assert "2 stored costs of this hardware are of 4 threads, all, pause 50 ms" in said
    assert "not of 1 thread, all, pause 50 ms" in said
    assert "partc profile m.onnx --threads 1" in said
    store.add({str(replace(key, power="15W")): COST for key in keys})
    assert "power mode 15W" in other_settings_notice(store, map(str, keys), "it")
    assert other_settings_notice(store, [str(CostKey("block", "f" * 64, "cpu"))], "it") == ""


def test_costs_of_a_machine_elsewhere_are_taken_whole_and_never_mixed(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    keys = {str(n): CostKey("block", f"{n:064x}", "data sheet/nano", "1|all", 50.0)
            for n in range(3)}  # fmt: skip
    keys["fixed"] = CostKey("segment-fixed", "", "data sheet/nano", "1|all", 50.0)

    def measured(fingerprint: str, names: Iterable[str], day: int, settings: str = "1|all") -> None:
        cost = replace(
            COST, measured_at=f"2026-02-{day:02d}T00:00:00+00:00", fingerprint=fingerprint
        )
        store.add(
            {str(replace(keys[n], fingerprint=fingerprint, settings=settings)): cost for n in names}
        )

    def found() -> Elsewhere:
        return costs_of_machine(store, keys, lambda f: "Orin" in f, "partc profile --threads 1")

    assert found() == Elsewhere()
    measured("trt/Xavier", keys, 9)
    assert found() == Elsewhere()
    measured("trt/Orin A", ["0", "1", "2"], 3)  # the fixed cost is missing
    measured("trt/Orin B", ["fixed"], 4)
    assert found() == Elsewhere()
    measured("trt/Orin C", keys, 1, settings="4|all")
    assert "of that hardware are of 4 threads" in found().notice
    measured("trt/Orin D", keys, 2)
    assert found().fingerprint == "trt/Orin D"
    measured("trt/Orin B", keys, 5)
    assert found().fingerprint == "trt/Orin B"
    costs = found().costs
    assert costs is not None
    assert set(costs) == set(keys)
    assert {cost.fingerprint for cost in costs.values()} == {"trt/Orin B"}
