"""Reading placement problems: right ones come back equal, wrong ones get one sentence."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.errors import PartcError, UsageError
from partc.optimizer import Problem, solve
from partc.optimizer.schema import schema_text
from tests.optimizer.random_problems import random_problem

EXAMPLE: dict[str, Any] = {
    "objective": "latency",
    "hosts": [
        {
            "name": "camera",
            "memory_bytes": 536870912,
            "power_active_w": 5.0,
            "power_tx_w": 1.2,
        },
        {"name": "server"},
    ],
    "links": [
        {
            "between": ["camera", "server"],
            "seconds_per_byte": [4e-7, 4e-7],
            "latency_s": [0.005, 0.005],
        }
    ],
    "ops": [
        {
            "name": "conv1",
            "inputs": ["x"],
            "outputs": ["t1"],
            "cost_s": {"camera": 0.010, "server": 0.002},
            "weights": ["w1"],
        },
        {
            "name": "relu1",
            "inputs": ["t1"],
            "outputs": ["t2"],
            "cost_s": {"camera": 0.001, "server": 0.001},
        },
    ],
    "tensors": [
        {"name": "x", "size_bytes": 602112},
        {"name": "t1", "size_bytes": 150528},
        {"name": "t2", "size_bytes": 150528},
    ],
    "weights": [{"name": "w1", "size_bytes": 3456}],
    "inputs": {"x": "camera"},
    "outputs": {"t2": "camera"},
    "codecs": [
        {
            "name": "fp16",
            "ratio": 0.5,
            "loss": 0.0002,
            "encode_s_per_byte": 1.8e-9,
            "decode_s_per_byte": 1.2e-9,
        }
    ],
    "constraints": {
        "monotone": False,
        "contiguous": False,
        "pinned": {"conv1": "camera"},
        "forbidden": {},
        "keep_local": ["x"],
        "together": [["conv1", "relu1"]],
        "loss_budget": 0.01,
        "energy_j": {"camera": 0.2},
        "deadline_s": None,
    },
}


def test_the_documented_example_is_solved() -> None:
    answer = solve(Problem.from_dict(EXAMPLE)).to_dict()
    assert answer["status"] == "optimal"
    assert answer["objective"] == pytest.approx(0.011)
    assert answer["placement"] == {"conv1": "camera", "relu1": "camera"}
    promised = [
        "objective",
        "bound",
        "gap",
        "status",
        "placement",
        "transfers",
        "loads",
        "solver",
        "solve_s",
    ]
    assert set(promised) <= set(answer)
    assert answer["simulated_latency_s"] == pytest.approx(answer["latency_s"])
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("shape", ["chain", "star", "bus"])
def test_dictionary_round_trip(shape: str, tmp_path: Path) -> None:
    for seed in range(20):
        problem = Problem.from_dict(random_problem(seed, hosts=3, shape=shape))
        assert Problem.from_dict(problem.to_dict()) == problem
        path = tmp_path / "problem.json"
        path.write_text(json.dumps(problem.to_dict(), allow_nan=False))
        assert Problem.from_json(path) == problem


def _set(*path: Any) -> Any:
    """A change that puts the last item at the path made of the others."""

    def change(data: dict[str, Any]) -> None:
        here: Any = data
        for step in path[:-2]:
            here = here[step]
        here[path[-2]] = path[-1]

    return change


def _drop(*path: Any) -> Any:
    def change(data: dict[str, Any]) -> None:
        here: Any = data
        for step in path[:-1]:
            here = here[step]
        del here[path[-1]]

    return change


WRONG = {
    "unknown key": (_set("hsots", []), "no key named 'hsots'. Did you mean 'hosts'?"),
    "unknown op key": (_set("ops", 0, "costs_s", {}), "Did you mean 'cost_s'?"),
    "unknown constraint": (_set("constraints", "pined", {}), "Did you mean 'pinned'?"),
    "no hosts": (_set("hosts", []), "hosts"),
    "missing cost": (_drop("ops", 0, "cost_s"), "Ops[0] ('conv1') lacks 'cost_s'."),
    "missing hosts": (_drop("hosts"), "The problem lacks 'hosts'."),
    "negative cost": (_set("ops", 0, "cost_s", "camera", -1), "ops[0] ('conv1').cost_s.camera"),
    "nan": (_set("ops", 0, "cost_s", "camera", float("nan")), "ops[0] ('conv1').cost_s.camera"),
    "infinite": (_set("tensors", 0, "size_bytes", float("inf")), "tensors[0] ('x').size_bytes"),
    "absurd": (_set("tensors", 0, "size_bytes", 1e300), "tensors[0] ('x').size_bytes"),
    "text": (_set("tensors", 0, "size_bytes", "12"), "tensors[0] ('x').size_bytes"),
    "truth": (_set("tensors", 0, "size_bytes", True), "tensors[0] ('x').size_bytes"),
    "objective": (_set("objective", "speed"), "objective"),
    "empty name": (_set("hosts", 0, "name", ""), "hosts[0]"),
    "monotone text": (_set("constraints", "monotone", "yes"), "constraints.monotone"),
    "three ends": (_set("links", 0, "between", ["camera", "server", "x"]), "links[0].between"),
    "one price": (
        _set("links", 0, "seconds_per_byte", [1.0]),
        "links[0].seconds_per_byte needs two values, but has 1.",
    ),
    "unknown link host": (_set("links", 0, "between", ["camera", "sever"]), "mean 'server'?"),
    "self link": (_set("links", 0, "between", ["camera", "camera"]), "to itself"),
    "no link": (_set("links", []), "No links join host 'server'"),
    "unknown tensor": (_set("ops", 0, "inputs", ["y"]), "no tensor named 'y'"),
    "unknown codec of a host": (
        _set("hosts", 0, "codec_factors", {"zstd": {"encode": 2}}),
        "codec_factors of host 'camera'",
    ),
    "unknown weight": (_set("ops", 0, "weights", ["w"]), "no weight named 'w'"),
    "unknown cost host": (_set("ops", 0, "cost_s", {"cam": 1}), "cost_s of op 'conv1'"),
    "unknown home": (_set("inputs", "x", "camra"), "Did you mean 'camera'?"),
    "unknown input": (_set("inputs", "z", "camera"), "no tensor named 'z'"),
    "input and output of an op": (_set("inputs", "t1", "camera"), "also produced by op 'conv1'"),
    "produced twice": (_set("ops", 1, "outputs", ["t1"]), "'t1' is produced twice"),
    "from nowhere": (_set("inputs", {}), "neither an input nor produced"),
    "cycle": (_set("ops", 0, "inputs", ["t2"]), "The ops form a cycle: conv1 -> relu1 -> conv1."),
    "same host twice": (_set("hosts", 1, "name", "camera"), "Two hosts are named 'camera'"),
    "same op twice": (_set("ops", 1, "name", "conv1"), "Two ops are named 'conv1'"),
    "reserved codec": (_set("codecs", 0, "name", "none"), "reserved"),
    "unknown pinned": (_set("constraints", "pinned", {"conv2": "camera"}), "no op named 'conv2'"),
    "unknown pin host": (_set("constraints", "pinned", {"conv1": "c"}), "no host named 'c'"),
    "unknown local": (_set("constraints", "keep_local", ["y"]), "no tensor named 'y'"),
    "unknown together": (_set("constraints", "together", [["a"]]), "no op named 'a'"),
    "unknown energy": (_set("constraints", "energy_j", {"s": 1}), "no host named 's'"),
    "no segments": (_set("constraints", "max_segments", {"server": 0}), "max_segments.server"),
    "unknown codec": (_set("tensors", 0, "codecs", {"fp61": None}), "Did you mean 'fp16'?"),
    "bus and links": (_set("bus", {"hosts": ["camera", "server"]}), "either links or a bus"),
    "hosts as text": (_set("hosts", "camera"), "hosts"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_problems_get_one_sentence(case: str) -> None:
    change, expected = WRONG[case]
    data = copy.deepcopy(EXAMPLE)
    change(data)
    with pytest.raises(UsageError) as error:
        Problem.from_dict(data)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert "pydantic" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is a JSON object"),
        ("null", "is a JSON object"),
        ('{"hosts": [], "hosts": []}', "appears twice"),
        ('{"hosts": NaN}', "NaN is not a number"),
        ('{"hosts": -Infinity}', "-Infinity is not a number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"hosts": ' + "9" * 5000 + "}", "not usable JSON"),
    ],
)
def test_wrong_files_get_one_sentence(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "problem.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"problem\.json") as error:
        Problem.from_json(path)
    assert expected in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read"):
        Problem.from_json(tmp_path / "absent.json")
    with pytest.raises(UsageError, match="Cannot read"):
        Problem.from_json(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        Problem.from_json(tmp_path / "binary.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
PLACES = [[key] for key in EXAMPLE] + [["ops", 0, key] for key in EXAMPLE["ops"][0]]
PLACES += [["constraints", key] for key in EXAMPLE["constraints"]]
PLACES += [["links", 0, "between"], ["hosts", 0], ["tensors", 1], ["codecs", 0, "ratio"]]


@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_read_or_refused_with_a_sentence(place: list[Any], value: Any) -> None:
    data = copy.deepcopy(EXAMPLE)
    _set(*place, value)(data)
    try:
        problem = Problem.from_dict(data)
    except PartcError as error:
        assert str(error)
    else:
        assert Problem.from_dict(problem.to_dict()) == problem


def test_importing_the_package_loads_no_solver() -> None:
    script = "import sys, partc.optimizer; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pulp", "highspy", "scipy", "networkx", "pydantic", "numpy"} & set(loaded)


def test_the_published_schema_is_current() -> None:
    published = Path(__file__).parents[2] / "docs" / "problem.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text(), (
        "run python -m partc.optimizer.schema > docs/problem.schema.json"
    )


@pytest.mark.parametrize("budget", ["memory_bytes", "loss_budget", "deadline_s", "energy_j"])
@pytest.mark.parametrize("amount", [5e-324, 1e-300, 1e-20])
def test_budgets_next_to_nothing(budget: str, amount: float) -> None:
    """The smallest numbers there are: an answer, and no overflow on the way."""
    problem = copy.deepcopy(EXAMPLE)
    limits = problem.setdefault("constraints", {})
    if budget == "memory_bytes":
        for host in problem["hosts"]:
            host[budget] = amount
    else:
        limits[budget] = {"camera": amount} if budget == "energy_j" else amount
    solution = solve(Problem.from_dict(problem))
    assert solution.status in ("optimal", "infeasible")
    assert (solution.objective is None) == bool(solution.why_no_plan)
    if budget in ("memory_bytes", "deadline_s"):
        assert solution.status == "infeasible"
