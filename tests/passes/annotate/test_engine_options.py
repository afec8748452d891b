"""Costs are of engines as the host's own are built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.agent.messages import Job, settings_of, settings_to_plain
from partc.errors import RequestError
from partc.ir.engine import BuildOptions, EngineOptions, EngineRecipe
from partc.ir.program import Program
from partc.ir.topology import Host
from partc.measure.keys import CostKey
from partc.measure.store import CostStore
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.contract import Context
from partc.targets.protocol import RunSettings
from partc.targets.settings import run_settings
from tests.passes.annotate.test_precision import here, ingested, watched

QUICK = AnnotateCosts(repeats=3, pause_ms=0.0)

options = st.builds(
    BuildOptions,
    hardware_compatibility=st.sampled_from(["none", "ampere_plus"]),
    version_compatible=st.booleans(),
    dla_core=st.none() | st.integers(0, 7),
    workspace_mib=st.none() | st.integers(1, 2**20),
    optimization_level=st.integers(0, 5),
)


def host(target: str = "tensorrt", **engine: Any) -> Host:
    return Host.model_validate({"target": target, "engine": engine})


def test_keys_tell_what_differs_from_the_default() -> None:
    assert run_settings(host()).key == "1|all"
    assert run_settings(host(compute_capabilities=["8.7"])).key == "1|all"
    assert run_settings(host(optimization_level=3, version_compatible=False)).key == "1|all"
    slow = run_settings(host(optimization_level=5, dla_core=0))
    assert slow.key == "1|all|engine dla_core=0,optimization_level=5"
    portable = run_settings(host(hardware_compatibility="ampere_plus", version_compatible=True))
    assert portable.key == (
        "1|all|engine hardware_compatibility=ampere_plus,version_compatible=true"
    )


def test_where_nothing_is_built_nothing_of_engines_is_told() -> None:
    settings = run_settings(host("onnxruntime-cpu", optimization_level=5))
    assert settings == RunSettings()


def test_a_backend_that_only_the_node_has_may_build_engines(tmp_path: Path) -> None:
    file = tmp_path / "npu.toml"
    file.write_text('backend = "of-nobody-here"\ndescription = "an NPU"\n', encoding="utf-8")
    assert run_settings(host(str(file), workspace_mib=64)).engine.workspace_mib == 64


@given(options, options)
def test_one_key_is_of_one_way_to_build(one: BuildOptions, other: BuildOptions) -> None:
    assert (RunSettings(engine=one).key == RunSettings(engine=other).key) == (one == other)
    settings = RunSettings(precision="fp16", engine=one)
    key = CostKey("block", "0" * 64, "there", settings.key, 50.0)
    assert CostKey.parse(str(key)) == key
    assert (key.precision, key.threads) == ("fp16", 1)
    bare = CostKey("block", "0" * 64, "there", RunSettings(engine=one).key, 50.0)
    assert bare.precision == "fp32"


@given(options)
def test_agents_are_told_and_earlier_ones_only_what_they_know(given_: BuildOptions) -> None:
    settings = RunSettings(engine=given_)
    plain = settings_to_plain(settings)
    assert ("engine" in plain) == (given_ != BuildOptions())
    sent = Job.read(Job(kind="profile", backend="tensorrt", settings=plain).to_bytes())
    assert settings_of(sent) == settings


@pytest.mark.parametrize(
    "engine",
    [{"dla_core": -1}, {"dla_core": 99}, {"optimization_level": "high"}, {"plugins": "x.so"}, 7,
     {"workspace_mib": 2**40}],
)  # fmt: skip
def test_an_agent_takes_no_nonsense(engine: Any) -> None:
    plain = {**settings_to_plain(RunSettings()), "engine": engine}
    with pytest.raises(RequestError, match="malformed"):
        settings_of(Job(kind="profile", backend="tensorrt", settings=plain))


@given(options)
def test_segments_are_built_by_what_was_measured(given_: BuildOptions) -> None:
    told = EngineOptions(**given_.model_dump(), compute_capabilities=("8.7",))
    recipe = EngineRecipe.of("tensorrt", told)
    assert recipe == EngineRecipe.of("tensorrt", told.build)
    assert recipe.shapes == {}
    assert told.build == given_


def test_digests_of_recipes_are_those_of_bundles_that_exist() -> None:
    recipe = EngineRecipe(flavour="tensorrt_rtx", optimization_level=4)
    fields = json.loads(recipe.model_dump_json())
    assert sorted(fields) == [
        "dla_core", "flavour", "hardware_compatibility", "optimization_level", "shapes",
        "version_compatible", "workspace_mib",
    ]  # fmt: skip
    assert recipe.sha256 == DIGEST


DIGEST = "ee08fd611135a68e4d238934770095a29dded0f86a65f3b57965d21fd2b4a310"


def test_costs_of_one_way_to_build_are_not_taken_for_another(tmp_path: Path) -> None:
    store, meter = CostStore(tmp_path / "costs.sqlite"), watched()

    def annotated(**engine: Any) -> Program:
        topology = here(target="tensorrt", engine=engine)
        context = Context(topology, store=store, meters={"here": meter})
        return QUICK.run(ingested(topology, context), context).program

    annotated()
    plain = {entry.key for entry in store.entries()}
    assert not any("engine" in key for key in plain)
    tuned = annotated(optimization_level=5)
    assert [settings.engine.optimization_level for _, settings in meter.profiled] == [3, 5]
    (notice,) = [each for each in tuned.notices if "stored cost" in each]
    assert "not of 1 thread, all, engine optimization_level=5" in notice
    assert "measure with partc profile MODEL --topology TOPOLOGY --host here" in notice
    assert plain < {entry.key for entry in store.entries()}
    annotated(optimization_level=5)
    annotated(compute_capabilities=["8.7"])
    assert len(meter.profiled) == 2
