"""The examples of docs/tiling.md, run as they stand there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest

from partc.errors import UsageError
from partc.passes.tiling import registry
from partc.passes.tiling.ranges import tileable_groups
from partc.passes.tiling.registry import tile_rules
from tests.passes.tiling.single_ops import draw_weights
from tests.passes.tiling.support import assert_equal_to_whole, even_groups, feeds_of, ingest, tiled
from tests.passes.tiling.test_ranges import CHAIN, text_model
from tests.support.docs import DOCS, module_of
from tests.support.nasty_models import parsed

BIAS_GELU = """g (float[1,8,6] x) => (float[1,8,6] y) <float[6] b> {
    y = com.microsoft.BiasGelu(x, b) }"""


def bias_gelu() -> onnx.ModelProto:
    model = parsed(BIAS_GELU, {}, **{"com.microsoft": 1}).model
    return draw_weights(model)


def test_the_rule_tiles_its_op(monkeypatch: pytest.MonkeyPatch) -> None:
    program = ingest(bias_gelu())
    assert not tileable_groups(program).ranges
    module = module_of("tiling.md", "my_package_tile_rules")
    rules = {**tile_rules(), **module.__dict__["RULES"]}
    monkeypatch.setattr("partc.passes.tiling.bound.tile_rules", lambda: rules)
    for axis in (1, 2):
        (tileable,) = tileable_groups(program).along(axis)
        rewritten = tiled(program, even_groups(tileable, [1, 2]))
        assert_equal_to_whole(bias_gelu(), rewritten, feeds_of(program))


def test_the_functions_a_planner_calls() -> None:
    namespace: dict[str, Any] = {"program": ingest(text_model(CHAIN))}
    text = (DOCS / "tiling.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for block in blocks[:2]:
        exec(compile(block, "tiling.md", "exec"), namespace)
    assert namespace["group"].hosts == ("near", "far")
    assert namespace["seconds"].shape == (len(namespace["tileable"].cuts) - 1, 1, 2)
    assert (namespace["twice"] >= -1e-12).all()
    assert np.all(namespace["halo"] >= 0)


def test_two_rules_for_one_op_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice:
        def names(self) -> tuple[str, ...]:
            return ("one", "other")

        def load(self, name: str) -> object:
            return {("", "Conv"): None} if name != "none" else None

        def origin(self, name: str) -> str:
            return name

    monkeypatch.setattr(registry, "TILE_RULES", Twice())
    tile_rules.cache_clear()
    try:
        with pytest.raises(UsageError, match="both have a tile rule for 'Conv'"):
            tile_rules()
    finally:
        tile_rules.cache_clear()
