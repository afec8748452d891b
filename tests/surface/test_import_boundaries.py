"""Who may import whom: the table of CONTRIBUTING.md, on the sources as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOR_ALL = {"partc.errors", "partc.suggest", "partc.plugins"}
ALLOWED = {
    "partc/ir": {"partc.ir"},
    "partc/codecs": {"partc.codecs", "partc.ir"},
    "partc/optimizer": {"partc.optimizer", "partc.ir"},
    "partc/measure": {"partc.measure", "partc.ir"},
    "partc/imports": {"partc.imports", "partc.measure", "partc.targets", "partc.ir"},
    "partc/bundle": {"partc.bundle", "partc.codecs", "partc.ir"},
    "partc/export": {
        "partc.export",
        "partc.bundle",
        "partc.ir",
        "partc.runtime.wire.datatypes",
        "partc.runtime.wire.triton_config",
    },
    "partc/report": {"partc.report", "partc.bundle", "partc.ir"},
    "partc/runtime": {
        "partc.runtime",
        "partc.bundle",
        "partc.codecs",
        "partc.ir",
        "partc.targets",
    },
    "partc/agent": {
        "partc.agent",
        "partc.runtime",
        "partc.measure",
        "partc.bundle",
        "partc.codecs",
        "partc.ir",
        "partc.targets",
    },
    "targets": {"partc.targets", "partc.measure", "partc.ir"},
    "passes": {
        "partc.passes",
        "partc.imports",
        "partc.targets",
        "partc.optimizer",
        "partc.measure",
        "partc.bundle",
        "partc.codecs",
        "partc.ir",
    },
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A package of somebody else, which has a name of its own only once it is installed.
            is_foreign = "plugin_example" in path.parts
            assert node.level == 0 or is_foreign, f"{path} has a relative import"
            yield node.module or ""


def sources(folder: str) -> list[Path]:
    return [
        path
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts and not any(p.is_symlink() for p in path.parents)
    ]


@pytest.mark.parametrize("folder", ALLOWED)
def test_folders_import_only_what_they_may(folder: str) -> None:
    assert sources(folder)
    for path in sources(folder):
        for name in imports(path):
            if name.split(".")[0] != "partc" or name in FOR_ALL:
                continue
            allowed = any(name == each or name.startswith(f"{each}.") for each in ALLOWED[folder])
            assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_nothing_imports_passes_or_targets_by_their_folder() -> None:
    for folder in ("partc", "passes", "targets", "tests", "benchmarks", "examples", "docs"):
        for path in sources(folder):
            for name in imports(path):
                assert name.split(".")[0] not in ("passes", "targets"), f"{path} imports {name}"


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("onnx_graphsurgeon", "passes/surgery.py"),
        ("pulp", "partc/optimizer"),
        ("highspy", "partc/optimizer"),
        ("onnxruntime", "targets/onnxruntime"),
        ("openvino", "targets/openvino"),
        ("grpc", "partc/(runtime|agent)/wire"),
        ("tritonclient", "partc/runtime/wire"),
    ],
)
def test_a_library_with_an_adapter_is_imported_there_alone(library: str, home: str) -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("partc", "passes", "targets")
        for path in sources(folder)
        if any(name.split(".")[0] == library for name in imports(path))
    ]
    assert users
    assert all(re.match(home, user) for user in users), users
