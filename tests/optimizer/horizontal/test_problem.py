"""Horizontal problems as data: round trips, tables, and bad input in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partc.errors import InfeasibleError, PartcError, UsageError
from partc.optimizer.horizontal import (
    HorizontalPlan,
    HorizontalProblem,
    TiledRange,
    arcs_from_tables,
    evaluate_horizontal,
    gathers_from_table,
    solve_horizontal,
)
from tests.optimizer.horizontal.chains import random_horizontal

EXAMPLE: dict[str, Any] = {
    "objective": "latency",
    "hosts": [{"name": "device"}, {"name": "s1"}, {"name": "s2"}],
    "links": [
        {"between": ["device", "s1"], "seconds_per_byte": [1e-6, 1e-6]},
        {"between": ["device", "s2"], "seconds_per_byte": [1e-6, 1e-6]},
        {"between": ["s1", "s2"], "seconds_per_byte": [1.5e-6, 1e-8], "latency_s": [1e-4, 1e-4]},
    ],
    "ops": [
        {
            "name": "conv1",
            "inputs": ["x"],
            "outputs": ["t1"],
            "cost_s": {"device": 0.1, "s1": 0.02, "s2": 0.02},
            "weights": ["w1"],
        },
        {
            "name": "conv2",
            "inputs": ["t1"],
            "outputs": ["t2"],
            "cost_s": {"device": 0.2, "s1": 0.04, "s2": 0.04},
            "weights": ["w2"],
        },
    ],
    "tensors": [
        {"name": "x", "size_bytes": 1000},
        {"name": "t1", "size_bytes": 2000},
        {"name": "t2", "size_bytes": 500},
    ],
    "weights": [{"name": "w1", "size_bytes": 300}, {"name": "w2", "size_bytes": 700}],
    "inputs": {"x": "device"},
    "outputs": {"t2": "device"},
    "tilings": [{"name": "half", "hosts": ["s1", "s2"], "shares": [0.5, 0.5]}],
    "arcs": [
        {
            "entry": "x",
            "exit": "t1",
            "tiling": "half",
            "tile_s": [0.011, 0.01],
            "entry_bytes": [550, 550],
        },
        {
            "entry": "t1",
            "exit": "t2",
            "tiling": "half",
            "tile_s": [0.02, 0.021],
            "entry_bytes": [1050, 1050],
            "halo_bytes": {"half": [[0, 50], [30, 0]]},
        },
    ],
    "gathers": [{"tensor": "t2", "tiling": "half", "tile_bytes": [300, 200]}],
}


def test_the_example_is_what_one_computes_by_hand() -> None:
    problem = HorizontalProblem.from_dict(EXAMPLE)
    answer = solve_horizontal(problem).require_plan()
    seconds = 550e-6 + 0.011 + (50 * 1.5e-6 + 1e-4) + 0.021 + 300e-6
    assert answer.objective == pytest.approx(seconds)
    assert [(tiles.entry, tiles.exit, tiles.source) for tiles in answer.tiles] == [
        ("x", "t1", "device"),
        ("t1", "t2", "half"),
    ]
    # Side by side: s1 sends its halo when it is done, s2 has begun and ended earlier.
    data = answer.to_dict()
    assert json.loads(json.dumps(data)) == data
    kinds = [(message["kind"], message["bytes"]) for message in data["transfers"]]
    assert kinds.count(("scatter", 550.0)) == 2
    assert {("halo", 50.0), ("halo", 30.0)} < set(kinds)
    assert sorted(kinds)[:2] == [("gather", 200.0), ("gather", 300.0)]
    assert data["memory_bytes"] == {"device": 0.0, "s1": 1000.0, "s2": 1000.0}
    assert data["loads"]["s1"] == pytest.approx(0.031)


def test_one_radio_sends_one_tile_after_the_other() -> None:
    shared = HorizontalProblem.from_dict(EXAMPLE | {"shared_ports": ["device"]})
    answer = solve_horizontal(shared).require_plan()
    seconds = 1100e-6 + 0.011 + (50 * 1.5e-6 + 1e-4) + 0.021 + 500e-6
    assert answer.objective == pytest.approx(seconds)
    assert answer.evaluation is not None
    assert answer.evaluation.loads["device:out"] == pytest.approx(1100e-6)


def test_it_reads_what_it_writes(tmp_path: Path) -> None:
    problem = HorizontalProblem.from_dict(EXAMPLE)
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(problem.to_dict()))
    assert HorizontalProblem.from_json(path) == problem


def test_tables_give_the_same_arcs() -> None:
    problem = HorizontalProblem.from_dict(EXAMPLE)
    (tiling,) = problem.tilings
    tile_s = np.full((3, 3, 2), np.nan)
    entry_bytes = np.full((3, 3, 2), np.nan)
    halo_bytes = np.full((3, 3, 2, 2), np.nan)
    tile_s[0, 1], tile_s[1, 2] = (0.011, 0.01), (0.02, 0.021)
    entry_bytes[0, 1] = 550
    entry_bytes[1, 2] = 1050
    halo_bytes[1, 2] = [[0, 50], [30, 0]]
    cuts = ["x", "t1", "t2"]
    arcs = arcs_from_tables(cuts, tiling, tile_s, entry_bytes, halo_bytes)
    assert arcs == problem.arcs
    tile_bytes = np.array([[np.nan, np.nan], [np.nan, 1.0], [300, 200]])
    assert gathers_from_table(cuts, tiling, tile_bytes) == problem.gathers
    assert problem.changed(arcs=arcs) == problem
    with pytest.raises(UsageError, match=r"tile_s .* shape \(3, 3, 1\)"):
        arcs_from_tables(cuts, tiling, tile_s[:, :, :1], entry_bytes, halo_bytes)
    with pytest.raises(UsageError, match="tile_bytes"):
        gathers_from_table(cuts, tiling, tile_bytes[:2])


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *steps, last, value = path

    def change(data: dict[str, Any]) -> None:
        here: Any = data
        for step in steps:
            here = here[step]
        here[last] = value

    return change


BAD: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (_set("arcs", 0, "entry", "X"), "no tensor named 'X'"),
    (_set("arcs", 0, "tiling", "hal"), "no tiling named 'hal'. Did you mean 'half'"),
    (_set("arcs", 0, "tile_s", [1.0]), "tile_s has 1 values, but tiling 'half' has 2"),
    (_set("arcs", 0, "entry_bytes", [1.0]), "entry_bytes has 1 values"),
    (_set("arcs", 0, "entry_bytes", None), "says how the arc is entered"),
    (_set("arcs", 1, "halo_bytes", {"half": [[0, 0]]}), "needs 2 rows of 2 values"),
    (_set("arcs", 1, "halo_bytes", {"halve": []}), "no tiling named 'halve'"),
    (_set("arcs", 1, "weights", {"device": []}), "no host named 'device'"),
    (_set("arcs", 1, "weights", {"s1": ["w3"]}), "no weight named 'w3'"),
    (_set("arcs", 0, "tile_s", [1.0, -1.0]), "arcs[0].tile_s[1]"),
    (_set("arcs", 0, "tiles", []), "no key named 'tiles'"),
    (_set("arcs", 0, "exit", "x"), "no op in between"),
    (_set("tilings", 0, "shares", [1.0, 0.0]), "tilings[0] ('half').shares[1]"),
    (_set("tilings", 0, "shares", [0.5, 0.4]), "add up to 0.9"),
    (_set("tilings", 0, "shares", [1.0]), "2 hosts but 1 shares"),
    (_set("tilings", 0, "hosts", ["s1", "s1"]), "a host has two tiles"),
    (_set("tilings", 0, "hosts", ["s1", "s9"]), "no host named 's9'"),
    (_set("tilings", 0, "hosts", ["s1"]), "tilings[0] ('half').hosts"),
    (_set("tilings", 0, "name", "s1"), "has the name of a host"),
    (_set("gathers", 0, "tensor", "t9"), "no tensor named 't9'"),
    (_set("gathers", 0, "tile_bytes", [1.0]), "tile_bytes has 1 values"),
    (_set("shared_ports", ["s3"]), "no host named 's3'"),
    (_set("links", []), "No links join host"),
    (_set("links", 1, "between", ["s1", "device"]), "are linked twice"),
    (_set("links", 1, "between", ["s1", "s1"]), "to itself"),
    (_set("links", 1, "between", ["s1", "s7"]), "no host named 's7'"),
    (_set("constraints", {"monotone": True}), "'monotone' cannot be kept with arcs"),
    (_set("constraints", {"activations": True}), "'activations' cannot be kept with arcs"),
    (_set("constraints", {"loss_budget": 0.1}), "'loss_budget' cannot be kept with arcs"),
    (_set("outputs", {"t1": "device", "t2": "device"}), ""),
    (_set("codecs", []), "no key named 'codecs'"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_bad_input_is_refused_with_a_sentence(
    change: Callable[[dict[str, Any]], None], words: str
) -> None:
    data = copy.deepcopy(EXAMPLE)
    change(data)
    if not words:
        HorizontalProblem.from_dict(data)
        return
    with pytest.raises(UsageError) as caught:
        HorizontalProblem.from_dict(data)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_arc_must_be_closed() -> None:
    data = copy.deepcopy(EXAMPLE)
    data["arcs"].append(data["arcs"][0] | {"exit": "t2"})
    HorizontalProblem.from_dict(data)
    data["ops"][1]["inputs"] = ["t1", "x"]
    with pytest.raises(UsageError, match="op 'conv2', which reads 'x' from outside"):
        HorizontalProblem.from_dict(data)
    data["ops"][1]["inputs"] = ["t1"]
    data["outputs"]["t1"] = "device"
    with pytest.raises(UsageError, match="output 't1', which nobody could fetch"):
        HorizontalProblem.from_dict(data)
    del data["outputs"]["t1"]
    data["tensors"].append({"name": "u", "size_bytes": 1})
    data["ops"].append({"name": "other", "inputs": ["t1"], "outputs": ["u"], "cost_s": {"s1": 1.0}})
    with pytest.raises(UsageError, match="'t1', which op 'other' reads outside"):
        HorizontalProblem.from_dict(data)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (HorizontalPlan({"conv1": "s1"}), "neither a host nor an arc for op 'conv2'"),
        (HorizontalPlan({"conv1": "s1", "conv3": "s1"}), "no op named 'conv3'"),
        (HorizontalPlan({"conv1": "s1", "conv2": "s4"}), "no host named 's4'"),
        (
            HorizontalPlan({"conv1": "s1"}, (TiledRange("t1", "t2", "half", "half", 1),)),
            "'t1' is not tiled so",
        ),
        (
            HorizontalPlan({"conv1": "s1"}, (TiledRange("t1", "t2", "half", "half", 0),)),
            "Arc number 0 of the problem is not",
        ),
        (
            HorizontalPlan({"conv1": "s1"}, (TiledRange("t1", "t2", "half", "half", 7),)),
            "no arc number 7",
        ),
        (
            HorizontalPlan(
                {"conv1": "s1", "conv2": "s1"}, (TiledRange("t1", "t2", "half", "s1", 1),)
            ),
            "runs op 'conv2' twice",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(plan: HorizontalPlan, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate_horizontal(HorizontalProblem.from_dict(EXAMPLE), plan)
    assert words in str(caught.value)


def test_it_says_which_constraints_conflict() -> None:
    data = copy.deepcopy(EXAMPLE)
    data["constraints"] = {"deadline_s": 0.01, "keep_local": ["t1"]}
    data["hosts"][1]["memory_bytes"] = 1e9
    answer = solve_horizontal(HorizontalProblem.from_dict(data))
    assert answer.status == "infeasible"
    assert answer.conflicts == ("The latency must be at most 0.01 s.",)
    with pytest.raises(InfeasibleError, match=r"No plan satisfies .* at most 0.01 s"):
        answer.require_plan()
    data["constraints"] = {"keep_local": ["x"], "forbidden": {"conv1": ["device"]}}
    answer = solve_horizontal(HorizontalProblem.from_dict(data))
    assert len(answer.conflicts) == 2


def test_limits_that_make_no_sense_are_refused() -> None:
    problem = HorizontalProblem.from_dict(EXAMPLE)
    with pytest.raises(UsageError, match="time limit"):
        solve_horizontal(problem, time_limit_s=0)
    with pytest.raises(UsageError, match="gap"):
        solve_horizontal(problem, gap=1.0)


PLACES: list[list[Any]] = [
    ["arcs"],
    ["arcs", 0],
    ["arcs", 1, "halo_bytes"],
    ["arcs", 1, "halo_bytes", "half"],
    ["arcs", 1, "weights"],
    ["arcs", 0, "tile_s"],
    ["tilings"],
    ["tilings", 0, "shares"],
    ["tilings", 0, "hosts"],
    ["gathers"],
    ["gathers", 0, "tile_bytes"],
    ["shared_ports"],
    ["links"],
]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["s1", "half", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["half", "s1", "name"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_read_or_refused_with_a_sentence(place: list[Any], value: Any) -> None:
    data = copy.deepcopy(EXAMPLE)
    _set(*place, value)(data)
    try:
        problem = HorizontalProblem.from_dict(data)
    except PartcError as error:
        assert str(error)
    else:
        assert HorizontalProblem.from_dict(problem.to_dict()) == problem


def test_tiles_that_win_nothing_are_not_used() -> None:
    data = copy.deepcopy(EXAMPLE)
    data["inputs"], data["outputs"] = {"x": "s1"}, {"t2": "s1"}
    data["arcs"] = [
        {"entry": "x", "exit": "t2", "tiling": "half", "tile_s": [0.06, 0], "entry_bytes": [0, 0]}
    ]
    data["gathers"] = [{"tensor": "t2", "tiling": "half", "tile_bytes": [1, 0]}]
    answer = solve_horizontal(HorizontalProblem.from_dict(data))
    assert answer.objective == pytest.approx(0.06)
    assert not answer.tiles
    data["arcs"][0]["tile_s"] = [0.0599, 0]
    assert solve_horizontal(HorizontalProblem.from_dict(data)).tiles


def test_with_no_time_it_gives_what_it_has_and_says_how_good_that_is() -> None:
    data = random_horizontal(3, layers=12, vectors=3)
    for host in data["hosts"][1:]:
        host["memory_bytes"] = 0.4 * sum(weight["size_bytes"] for weight in data["weights"])
    answer = solve_horizontal(HorizontalProblem.from_dict(data), time_limit_s=1e-3)
    assert answer.status in ("feasible", "optimal")
    assert answer.objective is not None
    assert answer.bound is None or answer.bound <= answer.objective
