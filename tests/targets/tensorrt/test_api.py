"""Every name of TensorRT's API that the code uses exists in 10.3, 10.16 and 11.4.

`list_api` made the list from the real bindings. What TensorRT-RTX alone has may be used only
where the flavour was asked for.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
API: dict[str, Any] = json.loads((Path(__file__).parent / "api.json").read_text())["versions"]
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")

# The class that a variable of this name holds, wherever the code has one.
CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "error": "ParserError",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "inspector": "EngineInspector",
    "loaded": "ICudaEngine",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "_runtime": "Runtime",
}
FILES = {
    "building.py": ("builder", "network", "parser", "config", "profile", "tensor"),
    "parsing.py": ("builder", "parser", "error"),
    "runner.py": ("loaded", "_engine", "_context", "_runtime", "inspector"),
}
OF_RTX_ALONE = {
    ("trt", "ComputeCapability"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
}


def uses() -> Iterator[tuple[str, str, str]]:
    """File, owner (``trt``, or a class) and name."""
    for path in sorted((ROOT / "targets" / "tensorrt").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            if _is_module(owner):
                yield path.name, "trt", node.attr
            elif isinstance(owner, ast.Attribute) and _is_module(owner.value):
                yield path.name, owner.attr, node.attr
            elif isinstance(owner, ast.Name | ast.Attribute):
                name = owner.id if isinstance(owner, ast.Name) else owner.attr
                if name in FILES.get(path.name, ()):
                    yield path.name, CLASS_OF[name], node.attr


def _is_module(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (
        isinstance(node, ast.Attribute) and node.attr == "_trt"
    )


def known(version: str, owner: str, name: str) -> bool:
    listing = API[version]
    if name.startswith("__"):
        return True
    if owner == "trt":
        return name in listing["module"]
    return name in listing["classes"].get(owner, ())


def test_the_code_is_read() -> None:
    found = set(uses())
    assert len(found) > 50
    assert ("building.py", "Builder", "build_serialized_network") in found
    assert ("runner.py", "IExecutionContext", "execute_async_v3") in found
    assert ("building.py", "BuilderFlag", "TF32") in found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists(version: str) -> None:
    missing = [
        f"{file}: {owner}.{name}"
        for file, owner, name in sorted(set(uses()))
        if (owner, name) not in OF_RTX_ALONE and not known(version, owner, name)
    ]
    assert missing == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_list_tells_what_is_gone(version: str) -> None:
    assert not known(version, "IBuilderConfig", "num_compute_capabilities")
    gone = [("BuilderFlag", "FP16"), ("BuilderFlag", "INT8"), ("OnnxParser", "supports_model")]
    for owner, name in gone:
        assert known(version, owner, name) == (not version.startswith("11."))


def test_types_of_tensors_have_the_names_that_are_looked_up() -> None:
    from partc.targets.tensorrt.runner import _TYPES

    for version in VERSIONS:
        assert set(_TYPES) <= set(API[version]["classes"]["DataType"])
