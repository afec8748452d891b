"""partc solve on problems with arcs."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from tests.cli.support import partc
from tests.optimizer.horizontal.test_problem import EXAMPLE


def test_solve_recognises_arcs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(EXAMPLE))
    done = partc(capfd, "solve", path, "--json")
    data = json.loads(done.out)
    assert done.code == 0
    assert data["status"] == "optimal"
    assert [tiles["exit"] for tiles in data["tiles"]] == ["t1", "t2"]
    assert data["verdict"]["tiled"]
    assert data["baselines"]["untiled"]["objective"] > data["objective"]
    done = partc(capfd, "solve", path)
    assert done.out.startswith("optimal: objective 0.03")
    assert "Tiling over 2 hosts pays" in done.out
    assert "x..t1: half (s1, s2), from device" in done.out


def test_what_is_wrong_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(EXAMPLE | {"tiling": []}))
    done = partc(capfd, "solve", path)
    assert done.code == 2
    assert "There is no key named 'tiling'. Did you mean 'tilings'?" in done.err
    data = copy.deepcopy(EXAMPLE) | {"constraints": {"deadline_s": 1e-3}}
    path.write_text(json.dumps(data))
    done = partc(capfd, "solve", path, "--json")
    assert done.code == 1
    assert json.loads(done.out)["conflicts"] == ["The latency must be at most 0.001 s."]
    assert partc(capfd, "solve", path).code == 1
