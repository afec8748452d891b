"""What is measured is built as the host's own engines are."""

from __future__ import annotations

import pytest

from partc.ir.engine import BuildOptions, EngineRecipe
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings
from tests.targets.tensorrt.test_immediate import QUICKLY, Bench, bench
from tests.targets.tensorrt.test_runner import feeds, model

__all__ = ["bench"]

OPTIONS = BuildOptions(
    hardware_compatibility="ampere_plus", dla_core=1, workspace_mib=64, optimization_level=5
)


@pytest.mark.parametrize("options", [BuildOptions(), OPTIONS])
def test_engines_are_built_by_the_options_of_the_host(bench: Bench, options: BuildOptions) -> None:
    meter, settings = LocalMeter(bench.backend), RunSettings(engine=options)
    meter.run_times(model(), feeds(), settings, QUICKLY)
    meter.interleaved_times([(model(), feeds())], settings, QUICKLY)
    meter.profile(model(), feeds(), settings, QUICKLY)
    assert len(bench.builds.recipes) >= 3
    wanted = EngineRecipe.of(bench.library.flavour, options)
    assert {recipe.sha256 for recipe in bench.builds.recipes} == {wanted.sha256}
