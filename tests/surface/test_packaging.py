"""The wheel holds every package and every data file, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    # A checkout without links, as on a system that has none, must build the same wheel.
    assert not (source / "partc" / "passes").exists()
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected_modules() -> set[str]:
    found: set[str] = set()
    for folder, package in (("partc", "partc"), ("passes", "partc/passes"),
                            ("targets", "partc/targets")):  # fmt: skip
        for path in (ROOT / folder).rglob("*.py"):
            if "__pycache__" in path.parts or any(p.is_symlink() for p in path.parents):
                continue
            found.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def test_every_module_is_in_the_wheel(wheel_files: set[str]) -> None:
    missing = expected_modules() - wheel_files
    assert not missing


def test_data_files_are_in_the_wheel(wheel_files: set[str]) -> None:
    assert "partc/py.typed" in wheel_files
    assert "partc/targets/presets/onnxruntime-cpu.toml" in wheel_files
    assert any(name.endswith(".jinja") for name in wheel_files)


def test_nothing_else_is_in_the_wheel(wheel_files: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"partc"}


def test_entry_points_and_packages_are_declared_for_what_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = set(project["tool"]["setuptools"]["packages"])
    packages = {name.rsplit("/", 1)[0].replace("/", ".") for name in expected_modules()}
    assert declared == packages
