"""The commands of the README run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which the checkout's examples can be reached, as from its top."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def shell(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_commands_run_as_written(workplace: Path) -> None:
    commands = next(block for block in blocks("sh") if "partc compile" in block)
    lines = [line for line in commands.splitlines() if line and not line.startswith("make setup")]
    assert len(lines) >= 5
    output = "".join(shell(line, workplace) for line in lines)
    assert "optimal" in output
    assert (workplace / "bundle" / "manifest.json").is_file()


def test_the_python_example_runs_as_written(workplace: Path) -> None:
    if not (workplace / "mobilenetv2.onnx").exists():
        shell("python -m examples.models mobilenetv2 --output mobilenetv2.onnx", workplace)
    (example,) = blocks("python")
    script = "import numpy as np\nimage = np.zeros((1, 3, 224, 224), np.float32)\n" + (
        example.replace('output="bundle"', 'output="from-python"').replace(
            'open_bundle("bundle")', 'open_bundle("from-python")'
        )
    )
    script += "\nassert answer['logits'].shape == (1, 1000)\n"
    (workplace / "example.py").write_text(script, encoding="utf-8")
    shell("python example.py", workplace)


def test_make_lists_its_targets() -> None:
    listed = shell("make", ROOT)
    for target in ("demo", "test", "lint", "types", "bench", "docs", "clean"):
        assert f"make {target} " in listed
