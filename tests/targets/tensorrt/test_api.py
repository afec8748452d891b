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
    "building.py": ("builder", "network", "parser", "config", "profile", "tensor", "cache"),
    "parsing.py": ("builder", "parser", "error"),
    "runner.py": ("loaded", "_engine", "_context", "_runtime", "inspector"),
    "timings.py": ("config", "cache"),
}
# What a call gives, where the code goes on with it and gives it no name.
GIVES = {
    ("trt", "Builder"): "Builder",
    ("trt", "Runtime"): "Runtime",
    ("trt", "OnnxParser"): "OnnxParser",
    ("Builder", "create_network"): "INetworkDefinition",
    ("Builder", "create_builder_config"): "IBuilderConfig",
    ("Builder", "create_optimization_profile"): "IOptimizationProfile",
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
    ("IBuilderConfig", "create_timing_cache"): "ITimingCache",
    ("IBuilderConfig", "get_timing_cache"): "ITimingCache",
    ("INetworkDefinition", "get_input"): "ITensor",
    ("INetworkDefinition", "get_output"): "ITensor",
    ("OnnxParser", "get_error"): "ParserError",
}
OF_RTX_CLASSES = {"ComputeCapability"}
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
            owner = _class_of(node.value, path.name)
            if owner is not None:
                yield path.name, owner, node.attr


def _class_of(node: ast.expr, file: str) -> str | None:
    """What of TensorRT an expression is: its module, an enumeration or an object of a class."""
    if _is_module(node):
        return "trt"
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Attribute):
            return None
        owner = _class_of(node.func.value, file)
        return None if owner is None else GIVES.get((owner, node.func.attr))
    if isinstance(node, ast.Attribute) and _is_module(node.value):
        return node.attr
    if isinstance(node, ast.Attribute) and node.attr == "Severity":
        return node.attr
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in FILES.get(file, ()):
            return CLASS_OF[name]
    return None


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


def test_names_on_what_a_call_gives_are_read() -> None:
    found = set(uses())
    assert ("building.py", "ParserError", "desc") in found
    assert ("building.py", "ITensor", "shape") in found
    assert ("worker.py", "Runtime", "num_DLA_cores") in found
    assert ("log.py", "Severity", "INTERNAL_ERROR") in found
    assert ("timings.py", "IBuilderConfig", "create_timing_cache") in found
    assert {owner for _, owner, _ in found} <= {
        "trt",
        *API[VERSIONS[0]]["classes"],
        *OF_RTX_CLASSES,
    }


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
