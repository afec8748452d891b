"""An engine tried in a process of its own. What crashes there is in test_serving.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from partc.bundle.reader import Bundle
from partc.errors import TargetError
from partc.ir.engine import EngineEntry, EngineRecipe
from partc.runtime import engine_trial
from partc.runtime.engine_trial import try_apart
from tests.runtime import plans
from tests.runtime.handmade import write_bundle

ENTRY = EngineEntry(
    recipe=EngineRecipe(flavour="tensorrt_rtx"), segment_sha256="a" * 64, state="build_on_target"
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_bundle(tmp_path, plans.two_hosts()))


@pytest.mark.parametrize("backend", ["tensorrt-rtx", "tensorrt", "onnxruntime", "nobody's"])
def test_nothing_is_said_against_an_engine_that_cannot_be_tried(
    backend: str, bundle: Bundle, tmp_path: Path
) -> None:
    """No GPU, no such file, no such backend: whoever loads it is told."""
    try_apart(backend, tmp_path / "engine", ENTRY, bundle, allow_code=False)
    (tmp_path / "engine").write_bytes(b"not an engine")
    try_apart(backend, tmp_path / "engine", ENTRY, bundle, allow_code=False)


def test_an_engine_that_hangs_is_given_up(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_trial, "LONGEST_TRIAL_S", 1e-3)
    with pytest.raises(TargetError, match=r"was tried for 0\.001 s and did not run"):
        try_apart("tensorrt-rtx", tmp_path / "engine", ENTRY, bundle, allow_code=False)
