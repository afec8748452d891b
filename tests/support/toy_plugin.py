"""The package of `tests/plugin_example`, installed as pip does it, and partc beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1] / "plugin_example"


def install_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "plugin")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", str(folder), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def environment_of(folders: list[Path], **more: str) -> dict[str, str]:
    """With the packages of ``folders``."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), **more}


def run_partc(
    folders: list[Path], *arguments: str, cwd: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """The command line; ``more`` are variables of its environment."""
    return subprocess.run(
        [sys.executable, "-c", "from partc.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment_of(folders, **more),
        check=False,
    )


def output_of(folders: list[Path], *arguments: str, cwd: Path, **more: str) -> Any:
    """What the command line gives with ``--json``."""
    done = run_partc(folders, *arguments, "--json", cwd=cwd, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
