"""Costs of a host of a lower precision are those of what it will run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import partc
from partc.bundle.reader import Bundle
from partc.errors import TopologyError, UsageError
from partc.imports.imported import ImportedCosts, Kernel
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.measure.exchange import read_costs, to_json
from partc.measure.keys import CostKey
from partc.measure.store import CostStore
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.annotate.deployed_model import deployed_model
from partc.passes.annotate.group_blocks import GroupBlocks
from partc.passes.contract import Context
from partc.passes.ingest.read_model import read_model
from partc.pipeline import DEFAULT_PIPELINE, Pipeline
from partc.targets.meter import Job, LocalMeter
from partc.targets.protocol import Array, Profile, RunSettings, Sampling
from partc.targets.registry import load_backend
from tests.passes.build.test_lowering import model_of
from tests.passes.build.test_served_ops import model
from tests.support.nasty_models import floats

QUICK = AnnotateCosts(repeats=3, pause_ms=0.0)
INGEST = Pipeline.parse("infer-shapes,fold-constants")
SAMPLES = ({"x": floats(1, 3, 8, 8)}, {"x": floats(1, 3, 8, 8, seed=1)})
FULL = DEFAULT_PIPELINE.replace("annotate-costs", "annotate-costs{repeats=3,pause_ms=0.0}").replace(
    "refine-costs", "refine-costs{repeats=3,pause_ms=0.0,budget_s=1.0}"
)


@dataclass(frozen=True)
class Watched(LocalMeter):
    """Measures on this machine, and keeps what it was given to measure."""

    profiled: list[tuple[onnx.ModelProto, RunSettings]] = field(default_factory=list)
    in_turn: list[tuple[Sequence[Job], RunSettings]] = field(default_factory=list)

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        self.profiled.append((model, settings))
        return super().profile(model, feeds, settings, sampling)

    def interleaved_times(
        self, jobs: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        self.in_turn.append((jobs, settings))
        return super().interleaved_times(jobs, settings, sampling)


def watched() -> Watched:
    return Watched(load_backend("onnxruntime"))


def here(**settings: Any) -> Topology:
    return Topology.parse({"hosts": {"here": settings}})


def ingested(topology: Topology, context: Context) -> Program:
    program = INGEST.run(read_model(model()), topology, context=context)
    return GroupBlocks().run(program, context).program


def types_of(graph: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in graph.graph.node}


def element_types(graph: onnx.ModelProto) -> set[int]:
    return {weight.data_type for weight in graph.graph.initializer}


def is_in(precision: str, graph: onnx.ModelProto) -> bool:
    """Whether a model with weights was rewritten in a precision."""
    if precision == "int8":
        return {"QuantizeLinear", "DequantizeLinear"} <= types_of(graph)
    return onnx.TensorProto.FLOAT16 in element_types(graph)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_rewritten_model_is_measured_and_each_op_has_its_time(
    precision: str, tmp_path: Path
) -> None:
    store, meter = CostStore(tmp_path / "costs.sqlite"), watched()
    topology = here(precision=precision)
    context = Context(topology, store=store, calibration=SAMPLES, meters={"here": meter})
    program = ingested(topology, context)
    found = QUICK.run(program, context)
    ((profiled, settings),) = meter.profiled
    assert is_in(precision, profiled)
    assert settings.precision == precision
    assert found.program.costs is not None
    assert found.program.costs.precisions == {"here": precision}
    assert any(f"in {precision}" in said for said in found.diagnostics)
    for block in program.blocks or ():
        if any(program.op_by_name[op].op_type == "Conv" for op in block.ops):
            assert found.program.costs.of(block.name, "here").median_s > 0
    kinds = {entry.what.kind for entry in store.entries()}
    assert kinds == {"block", "whole", "segment-fixed"}
    assert {entry.what.precision for entry in store.entries()} == {precision}
    again = QUICK.run(program, context)
    assert len(meter.profiled) == 1
    assert any("found in the store" in said for said in again.diagnostics)
    # A team measures once in each precision, too.
    file, other = tmp_path / "costs.json", CostStore(tmp_path / "other.sqlite")
    file.write_text(to_json(store.entries(), "0"), encoding="utf-8")
    other.merge(read_costs(file), False)
    QUICK.run(program, replace(context, store=other))
    assert len(meter.profiled) == 1


def test_one_precision_does_not_take_the_costs_of_another(tmp_path: Path) -> None:
    store, meter = CostStore(tmp_path / "costs.sqlite"), watched()

    def annotated(precision: str) -> Program:
        topology = here(precision=precision)
        context = Context(topology, store=store, calibration=SAMPLES, meters={"here": meter})
        return QUICK.run(ingested(topology, context), context).program

    annotated("fp32")
    before = {entry.key: entry.cost for entry in store.entries()}
    assert not any("precision" in key for key in before)
    half = annotated("fp16")
    (notice,) = (each for each in half.notices if "stored cost" in each)
    assert "not of 1 thread, all, precision fp16" in notice
    assert "--precision fp16" in notice
    assert len(meter.profiled) == 2
    after = {entry.key: entry.cost for entry in store.entries()}
    assert before.items() <= after.items()
    annotated("fp32")
    assert len(meter.profiled) == 2


def test_hosts_of_two_precisions_are_measured_apart() -> None:
    meter = watched()
    topology = Topology.parse(
        {
            "hosts": {"a": {}, "b": {"precision": "fp16"}, "c": {"precision": "fp16"}},
            "links": [
                {"between": [one, other], "bandwidth_mbit_s": 20} for one, other in ("ab", "bc")
            ],
        }
    )
    context = Context(topology, meters=dict.fromkeys("abc", meter))
    found = QUICK.run(ingested(topology, context), context).program.costs
    assert found is not None and found.precisions == {"a": "fp32", "b": "fp16", "c": "fp16"}
    assert [settings.precision for _, settings in meter.profiled] == ["fp32", "fp16"]
    assert found.whole_s["b"] == found.whole_s["c"]


def test_the_model_is_quantised_once_for_all_passes() -> None:
    topology = here(precision="int8")
    context = Context(topology, calibration=SAMPLES)
    program = ingested(topology, context)
    assert deployed_model(program, context, "here") is deployed_model(program, context, "here")
    kernels = {op for block in program.blocks or () for op in block.ops}
    assert kernels == {op.name for op in program.placed_ops}


def test_quantisation_between_two_convolutions_does_not_make_them_one_block() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        c = Conv <pads = [1,1,1,1]> (x, w)
        d = Conv <pads = [1,1,1,1]> (c, v)
        y = Conv <pads = [1,1,1,1]> (d, u)
    }"""
    graph = model_of(
        text, w=floats(4, 3, 3, 3), v=floats(4, 4, 3, 3, seed=1), u=floats(4, 4, 3, 3, seed=2)
    )
    topology = here(precision="int8")
    context = Context(topology, calibration=SAMPLES)
    program = INGEST.run(read_model(graph), topology, context=context)
    program = GroupBlocks().run(program, context).program
    assert [len(block.ops) for block in program.blocks or ()] == [1, 1, 1]
    costs = QUICK.run(program, context).program.costs
    assert costs is not None
    assert all(costs.of(block.name, "here").median_s > 0 for block in program.blocks or ())


def test_blocks_of_an_imported_profile_need_no_samples() -> None:
    topology = here(precision="int8")
    ops = [node.name for node in model().graph.node]
    imported = ImportedCosts("trtexec", "p.json", (Kernel(" + ".join(ops), (0.5,)),), 10)
    context = Context(topology, imports={"here": imported})
    found = QUICK.run(ingested(topology, context), context).program.costs
    assert found is not None and found.precisions == {"here": ""}
    assert {cost.provenance for _, _, cost in found} == {"imported"}


def test_estimates_are_of_the_precision_and_say_so() -> None:
    topology = here(target="jetson-orin-nano", precision="fp16")
    context = Context(topology)
    found = QUICK.run(ingested(topology, context), context)
    assert found.program.costs is not None
    assert found.program.costs.precisions == {"here": "fp16"}
    assert any("from its data sheet, in fp16" in said for said in found.diagnostics)


def test_what_cannot_be_measured_is_refused_before_anything_is() -> None:
    meter = watched()
    for precision, calibration, error, parts in (
        ("bf16", (), TopologyError, ("'here'", "bf16", "fp16")),
        ("int8", (), TopologyError, ("--calibration", "--input")),
        ("int8", ({"z": floats(1)},), UsageError, ("sample 1", "'x'")),
        ("int8", ({"x": floats(1, 3, 9, 9)},), UsageError, ("sample 1", "(1, 3, 9, 9)")),
    ):
        topology = here(precision=precision)
        context = Context(topology, calibration=calibration, meters={"here": meter})
        with pytest.raises(error) as caught:
            ingested(topology, context)
        for part in parts:
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not meter.profiled


def compiled(tmp_path: Path, precision: str, store: CostStore) -> Bundle:
    topology = Topology.parse(
        {
            "hosts": {
                "camera": {"slowdown": 4.0},
                "server": {"precision": precision},
            },
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 1000}],
            "constraints": {"pin": {"camera": ["make_c"], "server": ["make_d"]}},
        }
    )
    return partc.compile(
        model(), topology, output=tmp_path / "bundle", pipeline=FULL, store=store,
        sample=SAMPLES[0], calibration=SAMPLES,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_compiled_from_end_to_end(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[tuple[list[onnx.ModelProto], RunSettings]] = []
    measured = LocalMeter.interleaved_times

    def kept(
        self: LocalMeter, given: Sequence[Job], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        jobs.append(([model for model, _ in given], settings))
        return measured(self, given, settings, sampling)

    monkeypatch.setattr(LocalMeter, "interleaved_times", kept)
    store = CostStore(tmp_path / "costs.sqlite")
    bundle = compiled(tmp_path, precision, store)
    of: dict[str, set[str]] = {}
    for entry in store.entries():
        if entry.what.precision:
            of.setdefault(entry.what.precision, set()).add(entry.what.kind)
    assert of == {
        "fp32": {"block", "whole", "segment-fixed", "segment"},
        precision: {"block", "whole", "segment-fixed", "segment"},
    }
    # What the blocks of each host cost is what the store has under its precision.
    stored = {
        (entry.what.precision, entry.cost.median_s)
        for entry in store.entries()
        if entry.what.kind == "block"
    }
    for block in bundle.manifest.blocks:
        assert (precision, block.costs["server"].median_s) in stored
        assert ("fp32", block.costs["camera"].median_s / 4) in stored
    # Segments were measured as they were deployed, beside the whole model in the same precision.
    for models, settings in jobs:
        for each in models:
            dense = "Conv" in types_of(each)
            assert is_in(settings.precision, each) == (dense and settings.precision != "fp32")
    assert {settings.precision for _, settings in jobs} == {"fp32", precision}
    segment = next(each for each in bundle.manifest.plan.segments if each.host == "server")
    path = bundle.path / bundle.manifest.hosts["server"].artefacts[segment.id].path
    assert is_in(precision, onnx.load(path))
    # The manifest says so.
    hosts = bundle.manifest.hosts
    assert hosts["server"].costs_precision == precision
    assert hosts["camera"].costs_precision == "fp32"


def test_keys_tell_the_precision_and_old_ones_are_float32() -> None:
    old = "block|" + "0" * 64 + "|onnxruntime-1.32/x86|1|all|pause 50 ms"
    assert CostKey.parse(old).precision == "fp32"
    assert str(CostKey.parse(old)) == old
    assert RunSettings().key == "1|all"
    settings = RunSettings(provider="CUDAExecutionProvider", precision="int8")
    for power in ("", "MAXN"):
        key = CostKey("block", "0" * 64, "there", settings.key, 50.0, power)
        assert CostKey.parse(str(key)) == key
        assert key.precision == "int8" and key.threads == 1
        assert "precision int8" in key.conditions_text
    assert CostKey.parse("line-message-fixed|there|pause 50 ms").precision == ""
    assert CostKey.parse("block|there|1|bf16").precision == "fp32"  # OpenVINO's level


def test_an_input_that_is_no_float_is_left_alone() -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[2,3] x) => (int64[2,3] y) '
        "{a = Abs(x) y = Neg(a)}"
    )
    topology = here(precision="fp16")
    context = Context(topology)
    program = INGEST.run(read_model(graph), topology, context=context)
    program = GroupBlocks().run(program, context).program
    found = QUICK.run(program, context).program.costs
    assert found is not None and np.isfinite(found.whole_s["here"])
