"""What a recipe becomes in a builder's configuration: a made-up one and that of real bindings."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest

from partc.errors import TargetError
from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.building import configure
from partc.targets.tensorrt.flavour import TENSORRT, TENSORRT_RTX
from tests.support.engines import needs_builder
from tests.targets.tensorrt.fake_gpu import REAL, Real


class Names:
    """An enumeration of the real bindings: its names are their own values."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, value: str) -> str:
        for version, listing in REAL.items():
            assert value in listing["classes"][self._name], f"{self._name}.{value} ({version})"
        return value


TRT: Any = SimpleNamespace(
    **{
        name: Names(name)
        for name in ("BuilderFlag", "DeviceType", "HardwareCompatibilityLevel", "MemoryPoolType")
    }
)


class Config(Real):
    known = "IBuilderConfig"

    def __init__(self) -> None:
        object.__setattr__(self, "set", {"TF32"})
        object.__setattr__(self, "limits", {})

    def clear_flag(self, flag: str) -> None:
        vars(self)["set"].discard(flag)

    def set_flag(self, flag: str) -> None:
        vars(self)["set"].add(flag)

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        vars(self)["limits"][pool] = size_bytes


def settings(**changes: Any) -> dict[str, Any]:
    config = Config()
    configure(TRT, TENSORRT, config, EngineRecipe(flavour="tensorrt", **changes), None)
    return dict(vars(config))


def test_an_accelerator_does_what_it_can_and_the_gpu_the_rest() -> None:
    found = settings(dla_core=1)
    assert (found["default_device_type"], found["DLA_core"]) == ("DLA", 1)
    assert found["set"] == {"GPU_FALLBACK"}


def test_without_one_the_gpu_does_all() -> None:
    found = settings()
    assert "default_device_type" not in found
    assert "DLA_core" not in found
    assert found["set"] == set()  # TF32 is off


def test_the_rest_of_a_recipe() -> None:
    found = settings(
        workspace_mib=3, optimization_level=1, version_compatible=True,
        hardware_compatibility="ampere_plus",
    )  # fmt: skip
    assert found["limits"] == {"WORKSPACE": 3 << 20}
    assert found["builder_optimization_level"] == 1
    assert found["set"] == {"VERSION_COMPATIBLE"}
    assert found["hardware_compatibility_level"] == "AMPERE_PLUS"


def test_a_gpu_that_is_elsewhere_is_for_the_library_that_builds_for_it() -> None:
    config: Any = Config()
    with pytest.raises(TargetError, match=r"TensorRT cannot build for compute capability 8\.9"):
        configure(TRT, TENSORRT, config, EngineRecipe(flavour="tensorrt"), "8.9")


@needs_builder()
def test_the_real_bindings_take_an_accelerator() -> None:
    """Those of TensorRT-RTX, which are the same source; in a process of their own."""
    script = """
        from partc.ir.engine import EngineRecipe
        from partc.targets.tensorrt.building import configure
        from partc.targets.tensorrt.flavour import TENSORRT, TENSORRT_RTX
        from partc.targets.tensorrt.log import make_logger
        trt = TENSORRT_RTX.load()
        config = trt.Builder(make_logger(trt)).create_builder_config()
        configure(trt, TENSORRT, config, EngineRecipe(flavour="tensorrt", dla_core=0), None)
        assert config.default_device_type == trt.DeviceType.DLA
        assert config.get_flag(trt.BuilderFlag.GPU_FALLBACK)
        assert not config.get_flag(trt.BuilderFlag.TF32)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_tensorrt_rtx_has_no_accelerator() -> None:
    config: Any = Config()
    recipe = EngineRecipe(flavour="tensorrt_rtx", dla_core=0)
    with pytest.raises(TargetError, match="TensorRT-RTX runs on no deep learning accelerator"):
        configure(TRT, TENSORRT_RTX, config, recipe, None)
