"""What the command line says of engines, on machines that cannot run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partc.ir.topology import Topology
from partc.runtime.onnx_fallback import GPU_PROVIDERS
from tests.cli.support import Outcome, partc, small_model
from tests.support.engine_hosts import camera_and_gpu
from tests.support.engines import machine

pytestmark = pytest.mark.skipif(
    machine("tensorrt").gpu is not None, reason="what is said where TensorRT is not; here it is"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import partc as library
    from tests.support.placements import QUICK

    folder = tmp_path_factory.mktemp("commands")
    library.compile(
        small_model(folder / "model.onnx"), camera_and_gpu(folder, "tensorrt"),
        output=folder / "bundle", pipeline=QUICK, shapes={"x": (1, 1, 64, 64)}, use_store=False,
    )  # fmt: skip
    return folder / "bundle"


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def test_inspect_lists_engines(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = done(partc(capfd, "inspect", bundle)).out
    assert "tensorrt, built on the host" in text
    assert "would fall back to ONNX by onnxruntime (" in " ".join(text.split())
    data = json.loads(done(partc(capfd, "inspect", bundle, "--json")).out)
    assert {each["host"] for each in data["engines_here"]} == {"gpu"}
    for each in data["engines_here"]:
        assert set(each) == {"host", "segment", "would", "action", "reason", "gpu", "fallback"}
        assert (each["action"], each["gpu"]) == ("fall_back", None)
        provider, refused = each["fallback"]["provider"], each["fallback"]["refused"]
        assert f"({provider}): {each['reason']}" in each["would"]
        assert provider not in refused
        assert provider == "CPUExecutionProvider" or refused.keys() < set(GPU_PROVIDERS)


def test_build_says_what_is_missing(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = partc(capfd, "build", bundle, "--host", "gpu")
    assert outcome.code == 1
    assert "no engine of host 'gpu' can be built here: " in outcome.err
    assert "Traceback" not in outcome.err


def test_build_where_there_is_nothing_to_build(
    bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "runs no engines" in done(partc(capfd, "build", bundle, "--host", "camera")).err
    data = json.loads(done(partc(capfd, "build", bundle, "--host", "camera", "--json")).out)
    assert data == {"host": "camera", "built": {}, "failed": {}}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("build", "--host", "gpus"), "Did you mean 'gpu'"),
        (("build", "--host", "gpu", "--segment", "s99"), "segment with an engine"),
        (("export",), "--triton DIR or --kserve FILE"),
        (("export", "--kserve", "x.yaml"), "needs --storage-uri"),
        (("export", "--kserve", "x.yaml", "--storage-uri", "here"), "no address that KServe"),
    ],
)
def test_wrong_usage(
    bundle: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    outcome = partc(capfd, arguments[0], bundle, *arguments[1:])
    assert outcome.code == 2
    assert sentence in outcome.err


def test_export(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = done(
        partc(
            capfd,
            "export",
            bundle,
            "--triton",
            tmp_path / "repository",
            "--json",
            "--kserve",
            tmp_path / "service.yaml",
            "--storage-uri",
            "s3://models/one",
        )
    )
    data = json.loads(outcome.out)
    assert len(data["triton"]["models"]) >= 1
    limits = json.loads((tmp_path / "service.yaml").read_text())
    assert limits["spec"]["predictor"]["model"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    again = partc(capfd, "export", bundle, "--triton", tmp_path / "repository")
    assert (again.code, "exists" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"precision": "fp12"}, "hosts.a.precision: Input should be 'fp32', 'fp16', 'bf16' or"),
        ({"engine": {"compute_capabilities": ["sm89"]}}, "'sm89' is no compute capability"),
        ({"engine": {"dla": 1}}, "Did you mean 'dla_core'"),
        ({"engine": {"optimization_level": 9}}, "less than or equal to 5"),
    ],
)
def test_topologies_that_ask_for_what_is_not(host: dict[str, object], sentence: str) -> None:
    from partc.errors import TopologyError

    with pytest.raises(TopologyError, match=sentence):
        Topology.parse({"hosts": {"a": host}})
