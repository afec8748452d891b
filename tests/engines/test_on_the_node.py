"""What a node does with a bundle: take, build, test, fall back; on a GPU that is made up."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import partc
from partc.bundle.reader import Bundle
from partc.errors import BundleError, MissingBackendError, TargetError
from partc.ir.engine import EngineRecipe, Flavour, Gpu
from partc.runtime import engine_segments
from partc.runtime.engine_segments import EngineSegments, EngineTerms, build_all
from partc.runtime.onnx_fallback import GPU_PROVIDERS
from partc.runtime.segments import SegmentPool
from partc.targets.protocol import Detection, Runner, RunSettings
from partc.targets.registry import load_backend
from tests.engines.bundled import with_engines
from tests.engines.test_end_to_end import SAMPLE, model_with_det
from tests.engines.test_onnx_fallback import Machine
from tests.support.engine_hosts import camera_and_gpu
from tests.support.oracle import run_whole
from tests.support.placements import QUICK

ORIN = Gpu(
    flavour="tensorrt", version="10.3.0.30", compute_capability="8.7",
    platform="linux-aarch64-tegra", name="Orin",
)  # fmt: skip
_MAGIC = b"engine of a test\n"


class MadeUp:
    """A backend whose engines are the ONNX behind a line, and which counts its builds."""

    name = "tensorrt"
    flavour: Flavour = "tensorrt"
    capabilities: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.here: Gpu | None = ORIN
        self.builds = 0
        self.factor = 1.0
        self.fails: Exception | None = None
        self.allowed: list[tuple[Path, bool]] = []

    def detect(self) -> Detection:
        return Detection(self.here is not None, "no GPU today", "10.3.0.30", "made up")

    def gpu(self) -> Gpu | None:
        return self.here

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        return (), ""

    def build(
        self, model: Path, recipe: EngineRecipe, gpu: Gpu, output: Path, *,
        timing_cache: Path | None = None, progress: Any = None,
    ) -> None:  # fmt: skip
        self.builds += 1
        output.write_bytes(_MAGIC)
        if self.fails is not None:
            raise self.fails
        output.write_bytes(_MAGIC + model.read_bytes())
        if progress is not None:
            progress("trying tactics", 0.5)
            progress("trying tactics", 1.0)

    def engine_runner(
        self, engine: Path, recipe: EngineRecipe, *, allow_code: bool = False
    ) -> Runner:
        self.allowed.append((engine, allow_code))
        if recipe.version_compatible and not allow_code:
            raise TargetError("the engine carries code")
        data = engine.read_bytes()
        if not data.startswith(_MAGIC):
            raise TargetError("the engine does not load")
        runner = load_backend("onnxruntime").runner(data.removeprefix(_MAGIC), RunSettings())
        return _Scaled(runner, self.factor) if self.factor != 1.0 else runner


class _Scaled:
    """Gives other answers than the model."""

    def __init__(self, runner: Runner, factor: float) -> None:
        self._runner, self._factor = runner, factor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, feeds: Any) -> Any:
        outputs: dict[str, Any] = dict(self._runner.run(feeds))
        return {name: value * self._factor for name, value in outputs.items()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("node")
    return partc.compile(
        model_with_det(), camera_and_gpu(folder, "tensorrt"), output=folder / "bundle",
        pipeline=QUICK, sample=SAMPLE, use_store=False,
    )  # fmt: skip


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUp:
    made_up = MadeUp()
    monkeypatch.setenv("PARTC_ENGINES", str(tmp_path / "store"))
    real: Callable[[str], Any] = load_backend
    monkeypatch.setattr(
        engine_segments,
        "load_backend",
        lambda name: made_up if name == "tensorrt" else real(name),
    )
    # No other process knows of it; tests of that are in test_serving.py.
    monkeypatch.setattr(engine_segments, "try_apart", lambda *_, **__: None)
    return made_up


def engine_from(model: Path) -> bytes:
    return _MAGIC + model.read_bytes()


def segments_of(bundle: Bundle) -> list[str]:
    return list(bundle.manifest.hosts["gpu"].engines)


def opened(bundle: Bundle, **options: Any) -> EngineSegments:
    """All segments loaded, and each run on its golden input."""
    engines = EngineSegments(bundle, "gpu", **options)
    for segment in segments_of(bundle):
        entry = bundle.manifest.hosts["gpu"].engines[segment]
        feeds, expected = (dict[str, Any](bundle.arrays(name)) for name in entry.golden)
        with engines.open(segment, RunSettings()) as runner:
            outputs: dict[str, Any] = dict(runner.run(feeds))
            for name, value in outputs.items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
    return engines


def kinds(engines: EngineSegments) -> set[str]:
    return {use.kind for use in engines.uses.values()}


def test_the_first_start_builds_and_the_next_takes(bundle: Bundle, backend: MadeUp) -> None:
    count = len(segments_of(bundle))
    first = opened(bundle)
    assert (kinds(first), backend.builds) == ({"engine"}, count)
    assert "engine for compute capability 8.7" in next(iter(first.uses.values())).detail
    assert kinds(opened(bundle)) == {"engine"}
    assert backend.builds == count


def test_a_new_version_builds_anew_and_the_old_engine_stays(
    bundle: Bundle, backend: MadeUp
) -> None:
    opened(bundle)
    backend.here = ORIN.model_copy(update={"version": "10.4.0.1"})
    opened(bundle)
    assert backend.builds == 2 * len(segments_of(bundle))
    backend.here = ORIN
    opened(bundle)
    assert backend.builds == 2 * len(segments_of(bundle))


def test_an_engine_with_other_answers_is_not_served(
    bundle: Bundle, backend: MadeUp, caplog: pytest.LogCaptureFixture
) -> None:
    backend.factor = 1.5
    engines = opened(bundle)
    assert kinds(engines) == {"onnx"}
    assert all("gives another" in use.reason for use in engines.uses.values())
    assert any("runs its ONNX by onnxruntime" in record.message for record in caplog.records)


def test_an_engine_with_other_answers_does_not_go_on_under_another_name(
    bundle: Bundle, backend: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ONNX Runtime's TensorRT is here, it is the same library."""
    tensorrt, cuda = GPU_PROVIDERS
    backend.factor = 1.5
    machine = Machine({tensorrt: None, cuda: None}, {tensorrt: 1.5})
    names = {"tensorrt": backend, "onnxruntime": machine}
    monkeypatch.setattr(engine_segments, "load_backend", names.__getitem__)
    for use in opened(bundle).uses.values():
        assert use.detail == "onnxruntime (CUDAExecutionProvider)"
        assert [each.provider for each in use.refusals] == [tensorrt]
        assert "the engine of segment" in use.reason
        assert "TensorrtExecutionProvider: it gives another" in use.reason
    machine.refuses[cuda] = TargetError("CUDA failure 2: out of memory")
    for use in opened(bundle).uses.values():
        assert use.detail == "onnxruntime (CPUExecutionProvider)"
        assert "CUDAExecutionProvider: CUDA failure 2: out of memory" in use.reason


def test_with_half_a_golden_pair_no_gpu_is_trusted(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    copy = with_engines(bundle, tmp_path / "copy", ORIN, engine_from)
    for entry in copy.manifest.hosts["gpu"].engines.values():
        del entry.golden[1:]
    engines = EngineSegments(copy, "gpu")
    for segment in segments_of(copy):
        engines.open(segment, RunSettings()).close()
    assert kinds(engines) == {"onnx"}
    assert all("half a golden pair" in use.reason for use in engines.uses.values())


def test_all_reasons_are_kept(bundle: Bundle, backend: MadeUp) -> None:
    opened(bundle)
    backend.here = ORIN.model_copy(update={"version": "10.4.0.1"})
    backend.fails = TargetError("no tactic")
    for use in opened(bundle).uses.values():
        assert "built by the older version 10.3.0.30" in use.reason
        assert "building one failed: no tactic" in use.reason
        # There is a GPU, so it is worth saying what would use it.
        assert {each.provider for each in use.refusals} <= set(GPU_PROVIDERS)
        for refusal in use.refusals:
            assert refusal.sentence in use.reason


def test_an_engine_that_was_built_here_is_taken_where_the_bundles_does_not_do(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    """And not built anew at each start."""
    copy = with_engines(bundle, tmp_path / "copy", ORIN, lambda _: b"not an engine")
    count = len(segments_of(bundle))
    for _ in range(2):
        assert kinds(opened(copy)) == {"engine"}
        assert backend.builds == count


def test_an_engine_of_a_bundle_runs_no_code_unless_that_is_allowed(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    """The manifest says which engines carry code, and whoever made the bundle wrote it."""
    copy = with_engines(bundle, tmp_path / "copy", ORIN, engine_from, version_compatible=True)
    count = len(segments_of(bundle))
    (prospect, *_) = EngineSegments(copy, "gpu").prospects()
    assert prospect.decision.action == "build"
    assert "carries machine code" in prospect.sentence
    assert "--allow-engine-code" in prospect.sentence
    trusting = EngineTerms(allow_code=True)
    (prospect, *_) = EngineSegments(copy, "gpu", terms=trusting).prospects()
    assert prospect.decision.action == "take"
    assert kinds(opened(copy, terms=trusting)) == {"engine"}
    assert backend.builds == 0
    assert {allowed for _, allowed in backend.allowed} == {True}

    backend.allowed.clear()
    for _ in range(2):
        assert kinds(opened(copy)) == {"engine"}
        assert backend.builds == count  # once, and then those of its own store are taken
    assert backend.allowed
    for path, allowed in backend.allowed:
        assert allowed
        assert not path.is_relative_to(copy.path)


def test_what_a_manifest_says_cannot_steer_a_terminal(
    bundle: Bundle, backend: MadeUp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = ORIN.model_copy(update={"version": "10.2\x1b]0;owned\a\n"})
    copy = with_engines(bundle, tmp_path / "copy", hostile, engine_from)
    backend.fails = TargetError("no\x1b[2J")
    for use in opened(copy).uses.values():
        assert "10.2" in use.reason
        assert use.sentence.isprintable()
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_no_engine_is_allowed_code_that_should_have_none(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    copy = with_engines(bundle, tmp_path / "copy", ORIN, engine_from)
    opened(copy, terms=EngineTerms(allow_code=True))
    assert kinds(opened(bundle)) == {"engine"}
    assert {allowed for _, allowed in backend.allowed} == {False}


def test_an_engine_with_other_answers_is_not_kept(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    backend.factor = 1.5
    segment = segments_of(bundle)[0]
    with pytest.raises(TargetError, match="gives another"):
        EngineSegments(bundle, "gpu").build(segment)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.name == "engine"]
    backend.factor = 1.0
    assert EngineSegments(bundle, "gpu").build(segment)
    assert kinds(opened(bundle)) == {"engine"}


def test_an_engine_that_gives_other_answers_since_is_built_anew(
    bundle: Bundle, backend: MadeUp
) -> None:
    """After an update of the driver, say: the key is the same."""
    opened(bundle)
    backend.factor = 1.5
    assert kinds(opened(bundle)) == {"onnx"}
    assert backend.builds == 2 * len(segments_of(bundle))


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (TargetError("the build process was killed (SIGKILL)"), "was killed"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    ],
)
def test_a_build_that_fails_falls_back_and_leaves_nothing(
    bundle: Bundle, backend: MadeUp, tmp_path: Path, failure: Exception, sentence: str
) -> None:
    backend.fails = failure
    engines = opened(bundle)
    assert kinds(engines) == {"onnx"}
    assert all(sentence in use.reason for use in engines.uses.values())
    assert not [path for path in (tmp_path / "store").rglob("*") if path.name == "engine"]


def test_without_leave_to_build_it_falls_back(bundle: Bundle, backend: MadeUp) -> None:
    engines = opened(bundle, terms=EngineTerms(may_build=False))
    assert (kinds(engines), backend.builds) == ({"onnx"}, 0)
    assert all("partc build" in use.reason for use in engines.uses.values())


def test_no_gpu_and_the_other_library(bundle: Bundle, backend: MadeUp) -> None:
    backend.here = None
    assert all(use.reason == "no GPU today" for use in opened(bundle).uses.values())
    with pytest.raises(MissingBackendError, match="no GPU today"):
        EngineSegments(bundle, "gpu").build(segments_of(bundle)[0])
    backend.here = ORIN.model_copy(update={"flavour": "tensorrt_rtx"})
    assert kinds(opened(bundle)) == {"onnx"}
    assert backend.builds == 0


def test_building_all_goes_on_past_one_that_fails(bundle: Bundle, backend: MadeUp) -> None:
    told: list[str] = []
    progress: list[str] = []
    terms = EngineTerms(progress=lambda phase, _: progress.append(phase))
    engines = EngineSegments(bundle, "gpu", terms=terms)
    names = segments_of(bundle)
    assert build_all(engines, names, anew=False, said=lambda name, _: told.append(name))
    assert (told, backend.builds) == (names, len(names))
    assert build_all(engines, names, anew=False, said=lambda name, _: None)
    assert backend.builds == len(names)  # there already
    assert progress[:4] == [
        f"engine of {names[0]}: {phase}"
        for phase in ("building", "trying tactics", "trying tactics", "trying it")
    ]
    backend.fails = TargetError("no")
    assert not build_all(engines, names, anew=True, said=lambda name, _: told.append(name))
    assert len(told) == 2 * len(names)


def test_a_segment_that_was_changed_is_not_built(
    bundle: Bundle, backend: MadeUp, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    segment = segments_of(bundle)[0]
    file = copy / bundle.manifest.hosts["gpu"].artefacts[segment].path
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="was changed"):
        EngineSegments(Bundle.open(copy), "gpu").build(segment)
    assert backend.builds == 0


def test_the_pool_of_a_host_runs_its_engines(
    bundle: Bundle, backend: MadeUp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    held: dict[str, Any] = dict(SAMPLE)
    pools = {host: SegmentPool(bundle, host, fallback="none") for host in bundle.manifest.hosts}
    for segment in bundle.manifest.plan.segments:
        held.update(pools[segment.host].run(segment, held)[0])
    np.testing.assert_allclose(
        held["y"], run_whole(model_with_det(), SAMPLE)["y"], rtol=1e-4, atol=1e-5
    )
    assert kinds(pools["gpu"].engines) == {"engine"}
    assert any("runs as tensorrt 10.3.0.30 engine" in record.message for record in caplog.records)
    for pool in pools.values():
        pool.close()
