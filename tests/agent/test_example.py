"""The example of three nodes, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_three_nodes(tmp_path: Path) -> None:
    environment = {**os.environ, "PARTC_COSTS": str(tmp_path / "costs.sqlite")}
    for _ in range(2):  # the second time everything is there already
        done = subprocess.run(
            [sys.executable, "-m", "examples.three_nodes", "--output", tmp_path / "out"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Largest difference from the whole model" in done.stdout + done.stderr
        assert "finished" not in done.stderr
