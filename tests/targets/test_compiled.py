"""Models that carry compiled code are not run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from partc.errors import TargetError
from partc.targets.protocol import RunSettings
from partc.targets.registry import load_backend
from tests.support.nasty_models import parsed

CONTEXT = """g (float[4] x) => (float[4] y) {
    y = com.microsoft.EPContext <embed_mode = 0, ep_cache_context = "../code.bin"> (x)
}"""
NESTED = """g (bool c, float[4] x) => (float[4] y) {
    y = If (c) <
        then_branch = t () => (float[4] a) { a = com.microsoft.EPContext <main_context = 1> (x) },
        else_branch = e () => (float[4] b) { b = Neg(x) }
    >
}"""
INNOCENT = "g (float[4] EPContext) => (float[4] y) { y = Neg(EPContext) }"


def model(text: str) -> onnx.ModelProto:
    return parsed(text, {}, **{"com.microsoft": 1}).model


@pytest.mark.parametrize("text", [CONTEXT, NESTED], ids=["plain", "nested"])
def test_compiled_code_is_refused(text: str, tmp_path: Path) -> None:
    backend = load_backend("onnxruntime")
    proto = model(text)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    for source in (proto.SerializeToString(), path):
        with pytest.raises(TargetError, match="compiled elsewhere"):
            backend.runner(source, RunSettings())


def test_a_name_is_no_code() -> None:
    with load_backend("onnxruntime").runner(
        model(INNOCENT).SerializeToString(), RunSettings()
    ) as runner:
        assert runner is not None
