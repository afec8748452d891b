"""What becomes of a worker process that dies, is killed, or says nothing; each for real.

The library that it loads is a module of the test's own, which does to the process what a library
may do.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import onnx
import pytest

from partc.errors import TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe
from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.builder import build
from partc.targets.tensorrt.flavour import TENSORRT
from tests.targets.tensorrt.fake_gpu import FAKE_GPU

RECIPE = EngineRecipe(flavour="tensorrt")
SEGFAULT = "import ctypes; ctypes.string_at(0)"
ABORT = "import os; os.abort()"
KILLED = "import os; os.kill(os.getpid(), 9)"
TERMINATED = "import os; os.kill(os.getpid(), 15)"
SILENT = "import os; os.write(2, b'out of luck\\n'); os._exit(3)"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the code of the module ``tensorrt`` is to be written."""
    folder = tmp_path / "library"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "tensorrt.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {y = Neg(x)}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.parametrize(("code", "name"), [(SEGFAULT, "SIGSEGV"), (ABORT, "SIGABRT")])
def test_a_crash_while_building_is_the_segments_fault(
    library: Path, model: Path, code: str, name: str
) -> None:
    """So the ops that are to blame are looked for, and placed elsewhere."""
    library.write_text(code)
    engine = model.parent / "engine"
    with pytest.raises(UnbuildableError, match=rf"TensorRT's build process crashed \({name}\)"):
        build(TENSORRT, model, RECIPE, FAKE_GPU, engine)
    assert not engine.exists()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (KILLED, r"was killed \(SIGKILL\), perhaps for want of memory"),
        (TERMINATED, "was ended by SIGTERM"),
        (SILENT, "ended without an answer: out of luck"),
    ],
)
def test_a_build_that_is_killed_says_nothing_of_the_segment(
    library: Path, model: Path, code: str, sentence: str
) -> None:
    library.write_text(code)
    engine = model.parent / "engine"
    with pytest.raises(TargetError, match=sentence) as caught:
        build(TENSORRT, model, RECIPE, FAKE_GPU, engine)
    assert not isinstance(caught.value, UnbuildableError)
    assert not engine.exists()


@pytest.mark.parametrize("code", [SEGFAULT, ABORT])
def test_a_crash_while_probing_is_nobodys_segment(library: Path, code: str) -> None:
    library.write_text(code)
    with pytest.raises(TargetError, match="TensorRT's probe process crashed") as caught:
        ask(TENSORRT, {"job": "probe"}, timeout_s=60)
    assert not isinstance(caught.value, UnbuildableError)


def test_a_build_that_somebody_kills_from_outside(library: Path, model: Path) -> None:
    number = model.parent / "number"
    library.write_text(
        f"import os, pathlib, time\n"
        f"part = pathlib.Path({str(number)!r} + '.part')\n"
        f"part.write_text(str(os.getpid()))\n"
        f"part.rename({str(number)!r})\n"
        f"time.sleep(600)\n"
    )

    def kill() -> None:
        while not number.exists():
            time.sleep(0.01)
        os.kill(int(number.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(TargetError, match=r"was killed \(SIGKILL\)"):
        build(TENSORRT, model, RECIPE, FAKE_GPU, model.parent / "engine")
    killer.join()
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "library", "model.onnx", "number",
    ]  # fmt: skip


def test_what_a_library_prints_is_no_answer(library: Path) -> None:
    library.write_text("""print('{"done": {}}'); __version__ = '10.3.0'""")
    found = ask(TENSORRT, {"job": "probe"}, timeout_s=60)
    assert found["library"] == "10.3.0"
