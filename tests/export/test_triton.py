"""Exported repositories are what Triton reads, and what the checks refuse is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

import partc
from partc.bundle.reader import Bundle
from partc.errors import BundleError, IntegrityError, UsageError
from partc.export.checking import check_repository
from partc.export.kserve import kserve_manifest, service_name
from partc.export.triton import export_triton
from partc.ir.engine import EngineEntry, EngineFile, Gpu
from partc.ir.topology import Topology
from partc.runtime.wire.triton_config import config_text, read_config
from tests.support.engine_hosts import camera_and_gpu
from tests.support.nasty_models import floats, parsed
from tests.support.oracle import assert_same
from tests.support.placements import QUICK

GRAPH = """g (float[N,3] x, float k) => (float[N,4] y, float s) {
    a = Relu(x) b = MatMul(a, w) c = Add(b, k) y = Exp(c) s = ReduceMean <keepdims = 0> (c) }"""
HOSTS: dict[str, Any] = {
    "hosts": {"camera": {}, "server": {"threads": 2}},
    "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20, "rtt_ms": 10}],
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model = parsed(GRAPH, {}).model
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(3, 4), "w"))
    names = [node.output[0] for node in model.graph.node]
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = f"make_{name}"
    pinned = {"camera": ["make_a"], "server": ["make_b", "make_c"]}
    topology = Topology.parse({**HOSTS, "constraints": {"pin": pinned}})
    sample = {"x": floats(2, 3), "k": np.array(0.5, np.float32)}
    pipeline = QUICK.replace("group-blocks", "group-blocks{fused=false}")
    output = tmp_path_factory.mktemp("export") / "bundle"
    return partc.compile(
        model, topology, output=output, pipeline=pipeline, sample=sample, use_store=False
    )


def config_of(folder: Path, model: str) -> Any:
    text = (folder / model / "config.pbtxt").read_text()
    return text_format.Parse(text, pb.ModelConfig())


def test_a_model_for_each_segment_and_one_for_all(bundle: Bundle, tmp_path: Path) -> None:
    done = export_triton(bundle, tmp_path / "repository")
    assert len(done.models) == len(bundle.manifest.plan.segments) > 1
    assert sorted(path.name for path in done.path.iterdir()) == sorted(
        [*done.models, str(done.ensemble)]
    )
    whole = config_of(done.path, str(done.ensemble))
    assert whole.platform == "ensemble"
    assert [step.model_name for step in whole.ensemble_scheduling.step] == list(done.models)
    assert {tensor.name: list(tensor.dims) for tensor in whole.input} == {"x": [-1, 3], "k": [1]}
    assert list(next(t for t in whole.input if t.name == "k").reshape.shape) == []
    for name in done.models:
        config = config_of(done.path, name)
        assert config.backend == "onnxruntime"
        assert config.max_batch_size == 0
        assert (done.path / name / "1" / config.default_model_filename).is_file()


def test_running_the_steps_as_an_ensemble_would_gives_the_answer(
    bundle: Bundle, tmp_path: Path
) -> None:
    from partc.targets.protocol import RunSettings
    from partc.targets.registry import load_backend

    done = export_triton(bundle, tmp_path / "repository")
    feeds, expected = bundle.golden()
    held = dict(feeds)
    for step in config_of(done.path, str(done.ensemble)).ensemble_scheduling.step:
        file = done.path / step.model_name / "1" / "model.onnx"
        with load_backend("onnxruntime").runner(file, RunSettings()) as runner:
            found = runner.run({own: held[name] for own, name in step.input_map.items()})
        held.update({name: found[own] for own, name in step.output_map.items()})
    assert_same({name: held[name] for name in expected}, expected)


def test_one_host_alone(bundle: Bundle, tmp_path: Path) -> None:
    done = export_triton(bundle, tmp_path / "repository", host="server")
    assert done.ensemble is None
    (model,) = done.models
    parameters = config_of(done.path, model).parameters
    assert parameters["intra_op_thread_count"].string_value == "2"
    with pytest.raises(UsageError, match="Did you mean 'server'"):
        export_triton(bundle, tmp_path / "other", host="servers")


def test_nothing_is_overwritten_and_nothing_half_written(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists; choose another name"):
        export_triton(bundle, tmp_path / "there")
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    file = next((copy / "hosts" / "server").glob("*.onnx"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError):
        export_triton(Bundle.open(copy), tmp_path / "repository")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "there"]


Change = Callable[[dict[str, dict[str, Any]]], None]


def _first_step(configs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    whole = next(each for each in configs.values() if "ensemble_scheduling" in each)
    step: dict[str, Any] = whole["ensemble_scheduling"]["step"][0]
    return step


def _first_model(configs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in configs.values() if "ensemble_scheduling" not in each)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: _first_step(c).update(model_name="gone"), "'gone', which is not there"),
        (lambda c: _first_step(c)["input_map"].clear(), "does not give"),
        (lambda c: _first_step(c).update(input_map={"x": "never"}), "nothing before"),
        (lambda c: _first_step(c)["output_map"].update(zzz="q"), "has no output 'zzz'"),
        (lambda c: _first_model(c).update(name="other"), "calls itself 'other'"),
        (lambda c: _first_model(c).update(default_model_filename="no.onnx"), "no file 'no.onnx'"),
        (lambda c: _first_model(c)["input"][0].update(data_type="TYPE_INT8"), "TYPE_INT8"),
        (lambda c: _first_model(c)["input"][0].update(dims=[-1, 7]), "7"),
        (lambda c: _first_model(c)["input"][0].update(dims=[0, 3]), "which Triton refuses"),
        (lambda c: _first_model(c)["input"].append(_first_model(c)["input"][0]), "there twice"),
        (lambda c: _first_model(c)["output"].clear(), "."),
    ],
)
def test_what_triton_could_not_serve_is_found(
    bundle: Bundle, tmp_path: Path, change: Change, sentence: str
) -> None:
    folder = export_triton(bundle, tmp_path / "repository").path
    configs = check_repository(folder)
    change(configs)
    for name, config in configs.items():
        (folder / name / "config.pbtxt").write_text(config_text(config))
    with pytest.raises(BundleError, match=sentence):
        check_repository(folder)


@pytest.mark.parametrize("text", ["nonsense {", "name: 3", "no_such_key: 1", 'name: "a" name: "b"'])
def test_text_that_triton_does_not_read(text: str) -> None:
    with pytest.raises(BundleError, match="Triton would not read"):
        read_config(text)


def test_configurations_come_back_as_they_were() -> None:
    config = {
        "name": "a",
        "backend": "onnxruntime",
        "input": [{"name": 'odd "name"\n', "dims": ["2"]}],
    }
    assert read_config(config_text(config)) == config


def test_a_kserve_service(bundle: Bundle) -> None:
    data = json.loads(kserve_manifest(bundle, "s3://bucket/folder", host="server"))
    assert data["kind"] == "InferenceService"
    model = data["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://bucket/folder"
    assert "resources" not in model  # no host of this bundle has a GPU
    for uri in ("bucket", "file:///x", "s3://", ""):
        with pytest.raises(UsageError, match="no address that KServe fetches"):
            kserve_manifest(bundle, uri)


@pytest.mark.parametrize(
    "text", ["ResNet-50 (v1.5)", "", "ÄÖ", "-" * 80, "a" * 80, "a" * 54 + "-b"]
)
def test_names_that_kubernetes_accepts(text: str) -> None:
    name = service_name(text)
    assert len(name) <= 63
    assert name.strip("-") == name
    assert all(each.isascii() and (each.isalnum() or each == "-") for each in name)


PLANS = {"8.7": b"a plan for Orin", "8.9": b"another one, for Ada"}


@pytest.fixture(scope="module")
def with_plans(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose engines were put in by hand: what they are, Triton alone would find out."""
    folder = tmp_path_factory.mktemp("plans")
    model = parsed("g (float[2,3] x) => (float[2,3] y) {a = Relu(x) y = Exp(a)}", {}).model
    made = partc.compile(
        model, camera_and_gpu(folder, "tensorrt"), output=folder / "bundle", pipeline=QUICK,
        shapes={"x": (2, 3)}, use_store=False,
    )  # fmt: skip
    data = json.loads((made.path / "manifest.json").read_text())
    engines = data["hosts"]["gpu"]["engines"]
    for segment, entry in engines.items():
        files = [
            _put(data, made.path, made.manifest.hosts["gpu"].engines[segment], segment, each)
            for each in PLANS
        ]
        entry.update(state="built", built=files, reason="")
    (made.path / "manifest.json").write_text(json.dumps(data))
    assert engines
    return Bundle.open(made.path)


def _put(
    data: dict[str, Any], folder: Path, entry: EngineEntry, segment: str, capability: str
) -> dict[str, Any]:
    gpu = Gpu(
        flavour="tensorrt", version="10.3.0.30", compute_capability=capability,
        platform="linux-aarch64-tegra",
    )  # fmt: skip
    name = f"hosts/gpu/{segment}.sm{capability.replace('.', '')}.tensorrt"
    content = PLANS[capability]
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    data["files"][name] = {"sha256": digest, "size_bytes": len(content)}
    file = EngineFile(
        key=entry.key_for(gpu), path=name, sha256=digest, size_bytes=len(content)
    )  # fmt: skip
    return file.model_dump(mode="json")


def test_engines_go_as_plans_by_compute_capability(with_plans: Bundle, tmp_path: Path) -> None:
    done = export_triton(with_plans, tmp_path / "repository")
    segments = [s for s in with_plans.manifest.plan.segments if s.host == "gpu"]
    assert segments
    for segment in segments:
        (name,) = [each for each in done.models if each.endswith(f"_{segment.id}")]
        config = config_of(done.path, name)
        assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
        assert config.max_batch_size == 0
        assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
        files = dict(config.cc_model_filenames)
        assert files == {"8.7": "model.sm87.plan", "8.9": "model.sm89.plan"}
        assert config.default_model_filename in files.values()
        version = done.path / name / "1"
        assert {each.name for each in version.iterdir()} == set(files.values())
        for capability, file in files.items():
            assert (version / file).read_bytes() == PLANS[capability]


def test_a_plan_that_was_changed_is_not_exported(with_plans: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(with_plans.path, copy)
    file = next((copy / "hosts" / "gpu").glob("*.tensorrt"))
    file.write_bytes(b"something else!")
    with pytest.raises(IntegrityError):
        export_triton(Bundle.open(copy), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_plan_that_is_named_and_not_there_is_found(with_plans: Bundle, tmp_path: Path) -> None:
    folder = export_triton(with_plans, tmp_path / "repository").path
    next(folder.glob("*/1/model.sm87.plan")).unlink()
    with pytest.raises(BundleError, match=r"model\.sm87\.plan"):
        check_repository(folder)
