"""Constraints, objectives, fronts and portfolios from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partc.cli.constraints import constrained
from partc.errors import TopologyError, UsageError
from partc.ir.topology import Topology
from tests.cli.support import TOPOLOGY, Outcome, partc, small_model, topology

GIVEN: dict[str, Any] = {
    "pin": (),
    "forbid": (),
    "together": (),
    "keep_local": (),
    "private_blocks": None,
    "monotone": False,
    "contiguous": False,
    "max_segments": (),
    "memory": (),
    "count_activations": False,
    "deadline_ms": None,
    "energy_budget": (),
    "energy_of": (),
    "loss_budget": None,
    "codecs": None,
}

BASE = Topology.parse(
    {
        "hosts": {"camera": {"memory_mib": 64}, "server": {}},
        "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20}],
        "constraints": {"pin": {"camera": ["/stem"]}, "keep_local": ["image"], "deadline_ms": 50},
    }
)


def test_nothing_given_changes_nothing() -> None:
    assert constrained(BASE, GIVEN) == BASE.model_copy(
        update={"constraints": constrained(BASE, GIVEN).constraints}
    )
    assert constrained(BASE, GIVEN).constraints == BASE.constraints


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"pin": ("camera=/head", "server=type:Conv")}, "pin", None),
        ({"forbid": ("server=/a*", "server=/b")}, "forbid", {"server": ("/a*", "/b")}),
        ({"together": ("/a, /b*", "/c,/d")}, "together", (("/a", "/b*"), ("/c", "/d"))),
        ({"keep_local": ("t1",)}, "keep_local", ("image", "t1")),
        ({"private_blocks": 2}, "private_blocks", 2),
        ({"monotone": True}, "monotone", True),
        ({"contiguous": True}, "contiguous", True),
        ({"max_segments": ("server=2",)}, "max_segments", {"server": 2}),
        ({"count_activations": True}, "count_activations", True),
        ({"deadline_ms": 20.0}, "deadline_ms", 20.0),
        ({"energy_budget": ("camera=0.5",)}, "energy_j", {"camera": 0.5}),
        ({"energy_of": ("camera",)}, "energy_hosts", ("camera",)),
        ({"loss_budget": 0.01}, "loss_budget", 0.01),
        ({"codecs": "lz4, int8+zstd"}, "codecs", ("lz4", "int8+zstd")),
        ({"codecs": ""}, "codecs", ()),
    ],
)
def test_each_option_adds_to_or_replaces_the_table(
    given: dict[str, Any], field: str, value: Any
) -> None:
    found = getattr(constrained(BASE, GIVEN | given).constraints, field)
    if field == "pin":
        value = {"camera": ("/stem", "/head"), "server": ("type:Conv",)}
    assert found == value


def test_memory_is_the_hosts() -> None:
    changed = constrained(BASE, GIVEN | {"memory": ("server=256", "camera=32.5")})
    assert changed.hosts["server"].memory_mib == 256
    assert changed.hosts["camera"].memory_mib == 32.5


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ({"pin": ("camera",)}, UsageError, "not of the form HOST=VALUE"),
        ({"pin": ("=x",)}, UsageError, "not of the form HOST=VALUE"),
        ({"pin": ("camra=x",)}, TopologyError, "Did you mean 'camera'"),
        ({"memory": ("servr=1",)}, UsageError, "Did you mean 'server'"),
        ({"memory": ("server=much",)}, UsageError, "'much' is not a number"),
        ({"memory": ("server=-1",)}, TopologyError, "greater than 0"),
        ({"memory": ("server=nan",)}, TopologyError, "finite|greater than 0|less than"),
        ({"max_segments": ("server=1.5",)}, UsageError, "not a whole number"),
        ({"max_segments": ("server=0",)}, TopologyError, "greater than or equal to 1"),
        ({"energy_budget": ("camera=x",)}, UsageError, "'x' is not a number"),
        ({"energy_of": ("camra",)}, TopologyError, "Did you mean 'camera'"),
        ({"deadline_ms": 0.0}, TopologyError, "greater than 0"),
        ({"loss_budget": -1.0}, TopologyError, "greater than or equal to 0"),
    ],
)
def test_malformed_options(given: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        constrained(BASE, GIVEN | given)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Model, topology, output."""
    text = TOPOLOGY.replace(
        "[hosts.server]", "power_active_w = 2.0\n[hosts.server]\npower_active_w = 90.0"
    )
    return small_model(tmp_path / "m.onnx"), topology(tmp_path / "t.toml", text), tmp_path / "out"


def compiled(capfd: Any, files: tuple[Path, Path, Path], *options: str) -> Outcome:
    model, described, output = files
    return partc(
        capfd,
        "compile",
        model,
        "-t",
        described,
        "-o",
        output,
        "--force",
        "--quiet",
        "--json",
        *options,
    )


def hosts_of(answer: Outcome) -> dict[str, str]:
    assert answer.code == 0, answer.err
    segments = json.loads(answer.out)["plan"]["segments"]
    return {op: segment["host"] for segment in segments for op in segment["ops"]}


def test_constraints_reach_the_plan(capfd: Any, files: Any) -> None:
    free = hosts_of(compiled(capfd, files))
    other = "camera" if free["fc"] == "server" else "server"
    assert hosts_of(compiled(capfd, files, "--pin", f"{other}=fc"))["fc"] == other
    assert hosts_of(compiled(capfd, files, "--forbid", f"{free['fc']}=type:MatMul"))["fc"] == other
    kept = compiled(
        capfd, files, "--pin", "server=fc", "--keep-local", "x", "--private-blocks", "1"
    )
    assert hosts_of(kept)["conv"] == "camera"
    tied = compiled(capfd, files, "--pin", "server=fc", "--together", "fc,conv")
    assert hosts_of(tied)["conv"] == "server"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--pin", "camera=fcc"),
            "There is no op named 'fcc'. Did you mean 'fc'",
        ),
        (("--pin", "camera=fc", "--forbid", "camera=fc"), "'camera'"),
        (("--deadline-ms", "0.0001"), "The latency must be at most 1e-07 s"),
        (("--memory", "camera=0.0001", "--memory", "server=0.0001"), "of memory"),
        (("--codecs", "int8"), "say how much may be lost with loss_budget"),
        (("--codecs", "jpg", "--loss-budget", "0.1"), "There is no codec named 'jpg'"),
        (("--codecs", "int9", "--loss-budget", "0.1"), "Did you mean 'int8'"),
        (("--objective", "energy", "--energy-of", "moon"), "names a host that is not there"),
        (
            (
                "--energy-budget",
                "camera=0",
            ),
            "may use at most 0 J|No placement",
        ),
    ],
)
def test_what_is_refused_is_one_sentence(
    capfd: Any, files: Any, options: tuple[str, ...], sentence: str
) -> None:
    answer = compiled(capfd, files, *options, "--pin", "camera=conv")
    assert answer.code in (1, 2)
    assert json.loads(answer.out)["error"] in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert any(part in answer.err for part in sentence.split("|")), answer.err
    assert not files[2].exists()


def test_energy_and_a_front(capfd: Any, files: Any) -> None:
    answer = compiled(capfd, files, "--objective", "energy", "--pareto", "latency,energy")
    assert answer.code == 0, answer.err
    data = json.loads(answer.out)
    assert data["objective"] == "energy"
    assert data["predicted_j"] == pytest.approx(data["bound_j"])
    assert data["simulated_s"] <= data["latency_s"] * (1 + 1e-9)
    front = data["pareto"]
    assert front["objectives"] == ["latency", "energy"]
    assert front["points"][-1]["energy_j"] == pytest.approx(data["predicted_j"], rel=1e-6)
    shown = partc(capfd, "inspect", files[2])
    assert "trade-off" in shown.out or "at once" in shown.out
    assert (
        partc(capfd, "compile", *files[:1], "-t", files[1], "-o", "x", "--pareto", "a,b").code == 2
    )


def test_a_portfolio_from_file_to_answer(capfd: Any, files: Any) -> None:
    _, described, output = files
    conditions = "[conditions]\nbandwidth_mbit_s = [0.1, 1000]\ndevice_slowdown = [1, 5]\n"
    described.write_text(described.read_text() + conditions)
    data = json.loads(compiled(capfd, files).out)
    names = [each["name"] for each in data["portfolio"]["plans"]]
    assert "device-only" in names
    assert 0 < data["portfolio"]["certified_fraction"] <= 1
    assert set(data["portfolio"]["plans"][0]["cost"]) >= {"device_s", "sent_bytes", "round_trips"}
    shown = partc(capfd, "inspect", output)
    assert "within 5.0 % of the optimum" in shown.out
    assert all(name in shown.out for name in names)

    def run(*options: str) -> Outcome:
        return partc(capfd, "run", output, "--local", "--json", *options)

    golden = np.load(output / "golden/output.npz")["y"]
    for name in ("chosen", *names):
        written = output.parent / f"{name}.npz"
        answer = run("--plan", name, "--output", str(written))
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["plan"] == name
        np.testing.assert_allclose(np.load(written)["y"], golden, rtol=1e-4, atol=1e-6)
    slow = json.loads(run("--bandwidth-mbit-s", "0.1").out)
    assert slow["plan"] == "device-only"
    for options, sentence in (
        (("--plan", "chosn"), "Did you mean 'chosen'"),
        (("--bandwidth-mbit-s", "0"), "must be a positive number"),
        (("--device-slowdown", "-2"), "must be a positive number"),
    ):
        refused = run(*options)
        assert refused.code == 2
        assert json.loads(refused.out)["exit_code"] == 2
        assert sentence in refused.err
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "figure-conditions" in page


def test_budgets_and_conditions_do_not_go_together(capfd: Any, files: Any) -> None:
    described = files[1]
    described.write_text(described.read_text() + "[conditions]\nbandwidth_mbit_s = [0.1, 1000]\n")
    answer = compiled(capfd, files, "--deadline-ms", "500")
    assert answer.code in (1, 2)
    assert "A portfolio cannot have a deadline" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
