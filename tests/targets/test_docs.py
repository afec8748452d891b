"""The backend in docs/writing_targets.md does what the page says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import partc
from partc.ir.topology import Topology
from partc.targets import registry
from partc.targets.protocol import Backend
from partc.verification import verify_bundle
from tests.support.docs import DOCS, module_of
from tests.support.nasty_models import parsed
from tests.support.placements import QUICK

PAGE = "writing_targets.md"


def test_the_backend_of_the_page_compiles_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = module_of(PAGE, "evaluator").BACKEND
    real = registry.load_backend
    names = (*registry.backend_names(), "evaluator")
    for user in ("here", "reference"):
        monkeypatch.setattr(f"partc.targets.{user}.backend_names", lambda: names)
        monkeypatch.setattr(
            f"partc.targets.{user}.load_backend",
            lambda name: backend if name == "evaluator" else real(name),
        )
    target = tmp_path / "evaluator.toml"
    target.write_text('backend = "evaluator"\n')
    topology = Topology.parse({"hosts": {"only": {"target": str(target)}}})
    graph = "g (float[2,3] x) => (float[2,3] y) {a = Relu(x) b = Exp(a) y = Neg(b)}"
    bundle = partc.compile(parsed(graph, {}).model, topology, output=tmp_path / "b", pipeline=QUICK)
    assert bundle.manifest.hosts["only"].backend == "evaluator"
    verify_bundle(bundle.path)


def test_the_page_names_every_method() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z_]+)\(", page, re.MULTILINE)
    methods = [n for n, _ in inspect.getmembers(Backend, inspect.isfunction) if n[0] != "_"]
    assert sorted(named) == sorted(methods)
