"""From a model to a served bundle with engines, on a machine that has no GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton

import partc
from partc.bundle.engine_store import EngineStore
from partc.bundle.engine_table import segment_digest, source_of
from partc.bundle.manifest import Manifest
from partc.bundle.reader import Bundle
from partc.errors import BundleError, MissingBackendError, TopologyError, VerificationError
from partc.export.triton import export_triton
from partc.runtime.engine_segments import EngineSegments
from partc.runtime.golden import difference
from partc.runtime.local import LocalDeployment
from partc.runtime.server import HostServer
from partc.verification import verify_bundle
from tests.support.engine_hosts import camera_and_gpu
from tests.support.engines import machine, needs_builder
from tests.support.nasty_models import floats, parsed
from tests.support.oracle import run_whole
from tests.support.placements import QUICK

no_gpu = pytest.mark.skipif(
    machine("tensorrt_rtx").gpu is not None, reason="what happens without a GPU; here is one"
)

GRAPH = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu(c)
    m = MatMul(r, v)
    d = Det(m)
    e = Exp(d)
    s = Unsqueeze(e, axes)
    t = Mul(r, s)
    u = Conv <pads = [1,1,1,1]> (t, z)
    y = Relu(u)
}"""


def model_with_det() -> onnx.ModelProto:
    """Det has no implementation in any engine; the convolutions have."""
    model = parsed(GRAPH, {}).model
    weights = {
        "w": floats(4, 3, 3, 3) * 0.2,
        "v": floats(8, 8, seed=1) * 0.1,
        "z": floats(4, 4, 3, 3, seed=2) * 0.2,
        "axes": np.array([2, 3]),
    }
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    return model


SAMPLE = {"x": floats(2, 3, 8, 8, seed=3)}


def compiled(folder: Path, backend: str = "tensorrt-rtx", **gpu: Any) -> Bundle:
    gpu = {"engine": {"compute_capabilities": ["8.9"]}, **gpu}
    return partc.compile(
        model_with_det(), camera_and_gpu(folder, backend, **gpu), output=folder / "bundle",
        pipeline=QUICK, sample=SAMPLE, use_store=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled(tmp_path_factory.mktemp("engines"))


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTC_ENGINES", str(tmp_path / "store"))


@needs_builder()
class TestAheadOfTime:
    def test_an_op_that_engines_cannot_do_is_placed_elsewhere(self, bundle: Bundle) -> None:
        hosts = {op: s.host for s in bundle.manifest.plan.segments for op in s.ops}
        assert hosts["make_d"] == "camera"
        assert hosts["make_c"] == hosts["make_u"] == "gpu"
        costs = {block.ops[0]: set(block.costs) for block in bundle.manifest.blocks}
        assert costs["make_d"] == {"camera"}
        said = "host 'gpu' cannot run 1 op ('make_d': TensorRT-RTX has no implementation of Det)"
        assert said in bundle.manifest.notices

    def test_engines_are_built_with_key_recipe_and_digest(self, bundle: Bundle) -> None:
        engines = bundle.manifest.hosts["gpu"].engines
        assert set(engines) == set(bundle.manifest.hosts["gpu"].artefacts)
        for segment, entry in engines.items():
            assert entry.state == "built"
            (file,) = entry.built
            assert file.key.version == machine("tensorrt_rtx").version
            assert file.key.compute_capability == "8.9"
            assert bundle.manifest.files[file.path].sha256 == file.sha256
            source = source_of(entry, bundle.manifest.hosts["gpu"].artefacts[segment])
            assert segment_digest(bundle.manifest.files, source) == entry.segment_sha256
            assert all(shapes.min[0] == 1 for shapes in entry.recipe.shapes.values())
        assert not bundle.manifest.hosts["camera"].engines

    def test_the_same_twice(self, bundle: Bundle, tmp_path: Path) -> None:
        again = compiled(tmp_path)
        engines = [
            {path: entry.sha256 for path, entry in each.manifest.files.items()
             if path.endswith(".tensorrt_rtx")}
            for each in (bundle, again)
        ]  # fmt: skip
        assert engines[0] == engines[1]
        assert engines[0]

    def test_one_engine_for_each_capability(self, tmp_path: Path) -> None:
        made = compiled(tmp_path, engine={"compute_capabilities": ["8.6", "8.7", "12.0"]})
        for entry in made.manifest.hosts["gpu"].engines.values():
            assert [file.key.compute_capability for file in entry.built] == ["8.6", "12.0"]
            assert "not for 8.7" in entry.reason

    def test_a_capability_that_a_segment_cannot_be_built_for(self, tmp_path: Path) -> None:
        """On Turing TensorRT-RTX has no product of float32 matrices."""
        made = compiled(tmp_path, engine={"compute_capabilities": ["7.5", "8.9"]})
        entries = made.manifest.hosts["gpu"].engines.values()
        assert any("not for compute capability 7.5: " in entry.reason for entry in entries)
        assert all(entry.built for entry in entries)

    def test_an_op_that_the_builder_refuses_is_placed_elsewhere(self, tmp_path: Path) -> None:
        """The parser says yes to all; the builder for Turing says no to the product."""
        made = compiled(tmp_path, engine={"compute_capabilities": ["7.5"]})
        hosts = {op: s.host for s in made.manifest.plan.segments for op in s.ops}
        assert [op for op, host in hosts.items() if host == "camera"] == ["make_m", "make_d"]
        entries = made.manifest.hosts["gpu"].engines.values()
        assert [len(entry.built) for entry in entries] == [1, 1]
        refused = {(each.op, each.found_by) for each in made.manifest.hosts["gpu"].refused}
        assert refused == {("make_d", "backend"), ("make_m", "builder")}
        said = [notice for notice in made.manifest.notices if "as its builder found" in notice]
        assert len(said) == 1
        assert said[0].startswith("host 'gpu' cannot run 1 op ('make_m': ")
        assert "(round 1)" in said[0]
        verify_bundle(made.path)

    def test_an_op_that_no_host_can_run(self, tmp_path: Path) -> None:
        topology = camera_and_gpu(tmp_path, engine={"compute_capabilities": ["7.5"]})
        data = topology.model_dump(mode="json")
        data["constraints"]["pin"] = {"gpu": ["make_m"]}
        with pytest.raises(BundleError, match=r"'make_m': .*without that there is no plan: "):
            partc.compile(
                model_with_det(), partc.Topology.parse(data), output=tmp_path / "bundle",
                pipeline=QUICK, sample=SAMPLE, use_store=False,
            )  # fmt: skip
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_precision_is_in_the_onnx_and_its_loss_is_told(
        self, tmp_path: Path, precision: str
    ) -> None:
        made = compiled(tmp_path, precision=precision)
        assert 0 < made.manifest.verified.loss < 0.05
        assert any(f"computes in {precision}" in each for each in made.manifest.notices)
        assert "set-precision" in made.manifest.pipeline
        for segment, entry in made.manifest.hosts["gpu"].engines.items():
            assert entry.precision == precision
            source = source_of(entry, made.manifest.hosts["gpu"].artefacts[segment])
            casts = [n for n in onnx.load(made.path / source[0]).graph.node if n.op_type == "Cast"]
            assert casts
        verify_bundle(made.path)

    def test_int8_by_samples(self, tmp_path: Path) -> None:
        made = compiled(tmp_path, precision="int8")
        kinds = {
            node.op_type
            for artefact in made.manifest.hosts["gpu"].artefacts.values()
            for node in onnx.load(made.path / artefact.path).graph.node
        }
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        verify_bundle(made.path)

    def test_a_loss_over_the_budget_is_refused_before_anything_is_built(
        self, tmp_path: Path
    ) -> None:
        topology = camera_and_gpu(tmp_path, precision="int8")
        data = topology.model_dump(mode="json")
        data["constraints"]["loss_budget"] = 1e-6
        with pytest.raises(VerificationError, match="more than the budget of 1e-06"):
            partc.compile(
                model_with_det(), partc.Topology.parse(data), output=tmp_path / "bundle",
                pipeline=QUICK, sample=SAMPLE, use_store=False,
            )  # fmt: skip
        assert not (tmp_path / "bundle").exists()

    def test_int8_without_samples_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TopologyError, match="needs real samples"):
            partc.compile(
                model_with_det(), camera_and_gpu(tmp_path, precision="int8"),
                output=tmp_path / "bundle", pipeline=QUICK, shapes={"x": (1, 3, 8, 8)},
                use_store=False,
            )  # fmt: skip

    def test_an_rtx_engine_is_never_given_to_triton_as_a_plan(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        done = export_triton(bundle, tmp_path / "repository")
        assert not list(done.path.rglob("*.plan"))
        assert any("not of TensorRT-RTX" in notice for notice in done.notices)


@needs_builder()
@no_gpu
class TestWithoutAGpu:
    def test_segments_fall_back_and_the_answer_is_right(self, bundle: Bundle) -> None:
        with LocalDeployment(bundle.path) as deployment:
            answer = deployment.run(SAMPLE)
        expected = run_whole(model_with_det(), SAMPLE)
        np.testing.assert_allclose(answer["y"], expected["y"], rtol=1e-4, atol=1e-5)

    def test_the_log_and_the_metadata_say_what_runs(
        self, bundle: Bundle, caplog: pytest.LogCaptureFixture
    ) -> None:
        with HostServer(bundle, "gpu") as server:
            client = triton.InferenceServerClient(server.address)
            for segment in bundle.manifest.hosts["gpu"].engines:
                platform = client.get_model_metadata(segment).platform
                assert platform.startswith("partc onnx: onnxruntime (CPUExecutionProvider) (")
                assert "there is no GPU" in platform
            client.close()
        said = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert any("runs its ONNX by onnxruntime (CPUExecutionProvider)" in each for each in said)

    def test_inspect_says_what_would_be_done(self, bundle: Bundle) -> None:
        for prospect in EngineSegments(bundle, "gpu").prospects():
            assert prospect.decision.action == "fall_back"
            assert "there is no GPU" in prospect.sentence

    def test_building_says_what_is_missing(self, bundle: Bundle) -> None:
        segment = next(iter(bundle.manifest.hosts["gpu"].engines))
        with pytest.raises(MissingBackendError, match=r"can be built here: .*there is no GPU"):
            EngineSegments(bundle, "gpu").build(segment)


@pytest.mark.skipif(bool(machine("tensorrt").gpu), reason="TensorRT and a GPU are here")
class TestTensorRtWhereItIsNot:
    @pytest.fixture(scope="class")
    def made(self, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        return compiled(tmp_path_factory.mktemp("tensorrt"), "tensorrt", precision="fp16")

    def test_the_engines_are_left_to_the_target(self, made: Bundle) -> None:
        engines = made.manifest.hosts["gpu"].engines
        assert engines
        for entry in engines.values():
            assert (entry.state, entry.built) == ("build_on_target", [])
            assert entry.reason
            assert entry.recipe.flavour == "tensorrt"
        assert not list(made.path.rglob("*.tensorrt*"))

    def test_all_that_is_needed_is_there(self, made: Bundle) -> None:
        host = made.manifest.hosts["gpu"]
        for segment, entry in host.engines.items():
            made.check([*source_of(entry, host.artefacts[segment]), *entry.golden])
            feeds, expected = (made.arrays(name) for name in entry.golden)
            (segment_entry,) = [s for s in made.manifest.plan.segments if s.id == segment]
            assert set(feeds) == set(segment_entry.inputs)
            assert set(expected) == set(segment_entry.outputs)

    def test_triton_is_told_to_build_it_there(self, made: Bundle, tmp_path: Path) -> None:
        done = export_triton(made, tmp_path / "repository")
        texts = [(done.path / name / "config.pbtxt").read_text() for name in done.models]
        assert any("gpu_execution_accelerator" in text for text in texts)
        assert not list(done.path.rglob("*.plan"))


Change = Callable[[dict[str, Any]], object]


@needs_builder()
class TestHostileManifests:
    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda e: e.update(segment_sha256="0" * 64), "of another segment or recipe"),
            (lambda e: e["recipe"].update(optimization_level=1), "of another segment or recipe"),
            (lambda e: e["recipe"].update(flavour="tensorrt"), "of another segment or recipe"),
            (lambda e: e["built"].clear(), "built where files are named"),
            (lambda e: e["built"][0].update(sha256="0" * 64), "two digests"),
            (lambda e: e["built"][0].update(path="../../etc/passwd"), "has no digest"),
            (lambda e: e.update(source=["../x.onnx"]), "has no digest"),
            (lambda e: e.update(golden=["nowhere.npz"]), "has no digest"),
            (lambda e: e["recipe"].update(dla_core=-1), "greater than or equal to 0"),
            (
                lambda e: e["built"][0]["key"].update(compute_capability="8.9; rm"),
                "is no compute capability",
            ),
        ],
    )
    def test_engines_that_contradict_are_refused(
        self, bundle: Bundle, change: Change, sentence: str
    ) -> None:
        data = json.loads((bundle.path / "manifest.json").read_text())
        change(next(iter(data["hosts"]["gpu"]["engines"].values())))
        with pytest.raises(BundleError, match=sentence):
            Manifest.parse(data)

    def test_an_engine_of_a_segment_of_another_host(self, bundle: Bundle) -> None:
        data = json.loads((bundle.path / "manifest.json").read_text())
        data["hosts"]["camera"]["engines"] = data["hosts"]["gpu"]["engines"]
        with pytest.raises(BundleError, match="engine for foreign segment"):
            Manifest.parse(data)

    def test_a_changed_engine_is_not_taken(self, bundle: Bundle, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(bundle.path, copy)
        file = next((copy / "hosts" / "gpu").glob("*.tensorrt_rtx"))
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        opened = Bundle.open(copy)
        from partc.bundle.engines import bundled, decide
        from partc.ir.engine import Gpu

        segment = file.name.split(".")[0]
        entry = opened.manifest.hosts["gpu"].engines[segment]
        key = entry.built[0].key
        gpu = Gpu(
            flavour=key.flavour, version=key.version, platform=key.platform,
            compute_capability=key.compute_capability,
        )  # fmt: skip
        decision = decide(entry, gpu, bundled(opened, entry))
        assert decision.action == "build"
        assert "was changed after compiling" in decision.reason
        assert decide(entry, gpu, bundled(bundle, entry)).action == "take"


def test_a_store_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert EngineStore(tmp_path / "no").root == tmp_path / "no"


@pytest.mark.parametrize(
    ("actual", "precision", "sentence"),
    [
        ([1.0, 2.0], "fp32", ""),
        ([1.001, 2.0], "fp32", ""),
        ([1.1, 2.0], "fp32", "largest error 0.1"),
        ([1.02, 2.0], "fp16", ""),
        ([1.3, 2.0], "int8", "largest error 0.3"),
        ([float("nan"), 2.0], "int8", "not finite"),
        ([float("inf"), 2.0], "fp16", "not finite"),
        ([1.0], "fp32", "should be"),
    ],
)
def test_how_far_an_engine_may_be_off(actual: list[float], precision: str, sentence: str) -> None:
    expected = np.array([1.0, 2.0], np.float32)
    found = difference(np.array(actual, np.float32), expected, precision)
    assert found.startswith(sentence) or sentence in found
    assert bool(found) == bool(sentence)
