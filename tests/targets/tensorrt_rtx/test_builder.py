"""Real builds, without a GPU."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest

from partc.errors import MissingBackendError, TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe, Gpu, ShapeRange
from partc.targets.protocol import RunSettings
from partc.targets.tensorrt import apart
from partc.targets.tensorrt.flavour import TENSORRT_RTX
from partc.targets.tensorrt.runner import EngineRunner
from partc.targets.tensorrt_rtx import BACKEND
from tests.support.engines import machine, needs_builder

pytestmark = needs_builder()

RECIPE = EngineRecipe(flavour="tensorrt_rtx")
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,8,8] x) => (float[N,4,8,8] y)
<float[4,3,3,3] w = {WEIGHTS}>
{c = Conv <pads = [1,1,1,1]> (x, w) y = Relu(c)}
"""


def model_at(folder: Path, batch: int | str = 1, text: str = TEXT) -> Path:
    weights = ",".join(str(0.01 * (i % 7 - 3)) for i in range(108))
    path = folder / "model.onnx"
    onnx.save(
        onnx.parser.parse_model(text.replace("WEIGHTS", weights).replace("N", str(batch))), path
    )
    return path


def gpu(capability: str = "8.9") -> Gpu:
    (found,), _ = BACKEND.builders((capability,))
    return found


def built(path: Path, output: Path, recipe: EngineRecipe = RECIPE, capability: str = "8.9") -> str:
    BACKEND.build(path, recipe, gpu(capability), output)
    return hashlib.sha256(output.read_bytes()).hexdigest()


def test_the_same_engine_twice(tmp_path: Path) -> None:
    path = model_at(tmp_path)
    assert built(path, tmp_path / "one") == built(path, tmp_path / "two")


def test_the_same_engine_wherever_it_is_built(tmp_path: Path) -> None:
    """Its order of things depends on addresses, which paths of another length would move."""
    digests = set()
    for name in ("a", "a-folder-with-a-longer-name"):
        (tmp_path / name).mkdir()
        path = model_at(tmp_path / name)
        digests.add(built(path, tmp_path / name / "engine"))
    assert len(digests) == 1


def test_a_module_beside_the_model_is_not_imported(tmp_path: Path) -> None:
    path = model_at(tmp_path)
    (tmp_path / "onnx.py").write_text("raise SystemExit(1)")
    (tmp_path / "ctypes.py").write_text("raise SystemExit(1)")
    assert built(path, tmp_path / "engine")


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    (tmp_path / "engine").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        built(model_at(tmp_path), tmp_path / "engine")


def test_each_capability_has_an_engine_of_its_own(tmp_path: Path) -> None:
    path = model_at(tmp_path)
    digests = {built(path, tmp_path / each, capability=each) for each in BACKEND.capabilities}
    assert len(digests) > 1


def test_what_can_be_built_for_is_said() -> None:
    gpus, reason = BACKEND.builders(("8.9", "8.7", "9.0"))
    assert [each.compute_capability for each in gpus] == ["8.9"]
    assert "not for 8.7, 9.0" in reason
    assert len(BACKEND.builders(None)[0]) >= 1
    assert gpu().version == machine("tensorrt_rtx").version


def test_open_dimensions_take_the_recipes_shapes(tmp_path: Path) -> None:
    path = model_at(tmp_path, "N")
    with pytest.raises(TargetError, match="no shapes for input 'x', which is open"):
        built(path, tmp_path / "engine")
    shape = [3, 8, 8]
    shapes = {"x": ShapeRange(min=[1, *shape], opt=[2, *shape], max=[4, *shape])}
    recipe = RECIPE.model_copy(update={"shapes": shapes})
    assert built(path, tmp_path / "engine", recipe)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimization_level": 0}, {"workspace_mib": 256},
        {"hardware_compatibility": "ampere_plus"}, {"version_compatible": True},
    ],
)  # fmt: skip
def test_a_recipe_is_built_or_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = model_at(tmp_path)
    try:
        assert built(path, tmp_path / "engine", RECIPE.model_copy(update=changes))
    except TargetError as error:
        assert "TensorRT-RTX cannot build the segment: " in str(error)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot (read|build) the segment"),
        (b"no model", "cannot read the segment"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=sentence):
        built(path, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_an_op_that_no_engine_holds(tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,3] x) => (float[2] y) {y = Det(x)}'
    )
    with pytest.raises(TargetError, match="cannot read the segment"):
        built(model_at(tmp_path, text=text), tmp_path / "engine")


@pytest.mark.parametrize(
    ("text", "op"),
    [
        (
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4,4] b, float[1,1,4] s) => (int64[3,M] y)
            <int64 k = {3}, float t = {0.5}>
            {i = NonMaxSuppression(b, s, k, t) y = Transpose(i)}""",
            "NonMaxSuppression_0 (NonMaxSuppression)",
        ),
        (
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[2,9] x, int64[1] k) => (float[2,M] y) {y, i = TopK(x, k)}""",
            "TopK_0 (TopK)",
        ),
    ],
)
def test_outputs_whose_shape_depends_on_values_are_refused_before_building(
    tmp_path: Path, text: str, op: str
) -> None:
    path = model_at(tmp_path, "N", text)
    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.save(model, path)
    with pytest.raises(UnbuildableError, match="shape of output 'y' depends on values") as caught:
        built(path, tmp_path / "engine")
    assert f"because of {op}, and" in str(caught.value)


def test_outputs_whose_shape_follows_from_the_inputs_are_built(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[B,6] x) => (float[P,Q] y) <int64[1] m = {-1}>
    {s = Shape <start=0, end=1> (x) t = Concat <axis = 0> (m, s) y = Reshape(x, t)}"""
    shapes = {"x": ShapeRange(min=[1, 6], opt=[2, 6], max=[4, 6])}
    recipe = RECIPE.model_copy(update={"shapes": shapes})
    path = model_at(tmp_path, text=text)
    assert built(path, tmp_path / "one", recipe) == built(path, tmp_path / "two", recipe)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        built(model_at(tmp_path), tmp_path / "nowhere" / "engine")


def test_a_recipe_of_the_other_library(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no recipe for TensorRT-RTX"):
        built(model_at(tmp_path), tmp_path / "engine", EngineRecipe(flavour="tensorrt"))


def test_a_build_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"took longer than 0\.01 s and was stopped"):
        apart.ask(TENSORRT_RTX, {"job": "probe"}, timeout_s=0.01)


def test_progress_of_the_builder(tmp_path: Path) -> None:
    """The worker tells of it where a build takes minutes; here it is asked without one."""
    script = """
        import sys
        from pathlib import Path
        from partc.ir.engine import EngineRecipe
        from partc.targets.tensorrt.building import build_engine
        from partc.targets.tensorrt.flavour import TENSORRT_RTX
        said = []
        build_engine(
            TENSORRT_RTX, Path(sys.argv[1]), EngineRecipe(flavour="tensorrt_rtx"),
            capability="8.9", timing_cache=b"", detailed=False,
            progress=lambda phase, fraction: said.append(fraction),
        )
        assert said and said[-1] == 1.0 and all(0 <= each <= 1 for each in said), said
    """
    path = model_at(tmp_path)
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], check=True)


@pytest.mark.skipif(machine("tensorrt_rtx").gpu is not None, reason="there is a GPU here")
class TestWithoutAGpu:
    def test_detection_says_what_is_missing(self) -> None:
        found = BACKEND.detect()
        assert not found.available
        assert found.version
        assert "there is no GPU that could run its engines" in found.reason

    def test_an_engine_does_not_load_and_says_why(self, tmp_path: Path) -> None:
        built(model_at(tmp_path), tmp_path / "engine")
        with pytest.raises(MissingBackendError, match="there is no GPU that could run"):
            EngineRunner(TENSORRT_RTX, tmp_path / "engine", RECIPE)
        with pytest.raises(MissingBackendError, match="there is no GPU that could run"):
            BACKEND.runner(model_at(tmp_path), RunSettings())

    def test_the_real_runtime_refuses_the_engine_and_does_not_crash(self, tmp_path: Path) -> None:
        built(model_at(tmp_path), tmp_path / "engine")
        script = """
            import sys
            from pathlib import Path
            from unittest.mock import MagicMock
            from partc.errors import TargetError
            from partc.ir.engine import EngineRecipe
            from partc.targets.tensorrt.flavour import TENSORRT_RTX
            from partc.targets.tensorrt.runner import EngineRunner
            try:
                recipe = EngineRecipe(flavour="tensorrt_rtx")
                EngineRunner(TENSORRT_RTX, Path(sys.argv[1]), recipe, cuda=MagicMock())
            except TargetError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), tmp_path / "engine"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "TensorRT-RTX cannot load the engine: " in done.stdout
