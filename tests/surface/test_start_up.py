"""partc starts without what it does not need yet."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("numpy", "onnx", "onnxruntime", "pulp", "scipy", "matplotlib", "grpc", "pydantic", "rich")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(result.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import partc",
        "from partc.cli.main import run; run(['--help'])",
        "from partc.cli.main import run; run(['--version'])",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert not loaded_after(code) & set(HEAVY)


def test_the_optimizer_is_a_name_of_partc_and_loads_no_solver_yet() -> None:
    loaded = loaded_after("import partc; partc.optimizer")
    assert "partc.optimizer" in loaded
    assert not loaded & {"pulp", "highspy", "scipy"}
