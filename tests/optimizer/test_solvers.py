"""What happens when a solver lies, overruns, dies or is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import highspy
import numpy as np
import pytest

from partc.errors import OptimizerError, UsageError
from partc.optimizer import Problem, solve, solving, watchdog
from partc.optimizer.cbc import run_cbc
from partc.optimizer.highs import RawResult, run_highs
from partc.optimizer.instance import build_instance
from partc.optimizer.linear import Arrays
from partc.optimizer.models import build_model
from partc.optimizer.watchdog import solve_guarded
from tests.optimizer.random_problems import brute_force, random_problem
from tests.support.data import data_dir


def _arrays_of(path: str) -> Arrays:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.readModel(path)
    model = highs.getLp()
    by_column = model.a_matrix_
    rows: list[list[tuple[int, float]]] = [[] for _ in range(model.num_row_)]
    for column in range(model.num_col_):
        for entry in range(by_column.start_[column], by_column.start_[column + 1]):
            rows[by_column.index_[entry]].append((column, by_column.value_[entry]))
    return Arrays(
        np.array(model.col_cost_),
        np.array(model.col_lower_),
        np.array(model.col_upper_),
        np.array([kind == highspy.HighsVarType.kInteger for kind in model.integrality_]),
        np.array(model.row_lower_),
        np.array(model.row_upper_),
        np.array([0, *np.cumsum([len(row) for row in rows])], dtype=np.int32),
        np.array([column for row in rows for column, _ in row], dtype=np.int32),
        np.array([value for row in rows for _, value in row]),
        float(model.offset_),
    )


def test_highs_does_not_call_a_feasible_placement_infeasible() -> None:
    arrays = _arrays_of(str(data_dir() / "solver" / "false_infeasible.mps"))
    result = run_highs(arrays, integer=True, time_limit_s=60, gap=0.0)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(0.017560492035442403, rel=1e-9)
    assert solve_guarded(arrays, time_limit_s=60, gap=0.0).objective == pytest.approx(
        0.017560492035442403, rel=1e-9
    )


@pytest.fixture
def hard() -> Problem:
    """Needs the integer solver: its relaxation is fractional."""
    for seed in range(100):
        data = random_problem(seed, hosts=3, ops=6, shape="star")
        for host in data["hosts"]:
            host["memory_bytes"] = 14
        problem = Problem.from_dict(data)
        if brute_force(problem)[1] is None:
            continue
        model = build_model(build_instance(problem), 1.0)
        relaxed = run_highs(model.linear.arrays(), integer=False, time_limit_s=None, gap=0.0)
        if relaxed.values is not None and not model.is_integral(relaxed.values):
            return problem
    raise AssertionError("no such problem among the seeds")


@pytest.fixture
def fresh_worker() -> Iterator[None]:
    watchdog._WORKER.end()
    yield
    watchdog._WORKER.end()


INFEASIBLE = RawResult("infeasible", None, float("inf"), float("-inf"))


def test_a_false_infeasible_is_overruled_by_cbc(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, _, _ = brute_force(hard)
    monkeypatch.setattr(solving, "solve_guarded", lambda *_, **__: INFEASIBLE)
    answer = solve(hard)
    assert answer.status == "optimal"
    assert answer.solver == "cbc"
    assert answer.objective == pytest.approx(best, rel=1e-6)


def test_infeasible_needs_both_solvers(hard: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    whole = run_cbc

    def spy(*arguments: Any, **options: Any) -> RawResult:
        result = whole(*arguments, **options)
        asked.append(result.status)
        return result

    monkeypatch.setattr(solving, "run_cbc", spy)
    monkeypatch.setattr(solving, "tighten", lambda instance, **_: instance)
    answer = solve(hard.constrained(deadline_s=1e-3))
    assert answer.status == "infeasible"
    assert asked == ["infeasible"]
    assert answer.solver == "highs, cbc"


def test_cbc_takes_over_when_the_worker_dies(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> RawResult:
        raise OptimizerError("The HiGHS worker process died.")

    monkeypatch.setattr(solving, "solve_guarded", dies)
    answer = solve(hard)
    assert (answer.status, answer.solver) == ("optimal", "cbc")


def test_a_plan_that_is_not_what_the_solver_claims_is_an_error(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = solve_guarded

    def lies(*arguments: Any, **options: Any) -> RawResult:
        truth = whole(*arguments, **options)
        claimed = truth.objective * 0.9
        return RawResult("optimal", truth.values, claimed, claimed)

    monkeypatch.setattr(solving, "solve_guarded", lies)
    with pytest.raises(OptimizerError, match="but the solver says"):
        solve(hard)


def test_a_plan_that_breaks_a_constraint_is_never_returned(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything_on_the_first_host(arrays: Arrays, **_: Any) -> RawResult:
        return RawResult("optimal", np.zeros(len(arrays.cost)), 0.0, 0.0)

    monkeypatch.setattr(solving, "solve_guarded", everything_on_the_first_host)
    answer = solve(hard)
    assert (answer.status, answer.solver) == ("optimal", "cbc")
    assert answer.objective == pytest.approx(brute_force(hard)[0], rel=1e-6)


SLOW_WORKER = """
import sys, time
from partc.optimizer import highs_worker
def overruns(on_progress, arrays, **_):
    import numpy
    on_progress(None, float("inf"), -5.0)
    if {values}: on_progress(numpy.array({values}, dtype=float), {objective}, -4.0)
    time.sleep(600)
highs_worker.run_highs = overruns
highs_worker.main()
"""


def _slow_worker(monkeypatch: pytest.MonkeyPatch, values: list[float], objective: float) -> None:
    script = SLOW_WORKER.format(values=values, objective=objective)
    whole = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return whole([sys.executable, "-c", script], **options)

    monkeypatch.setattr(subprocess, "Popen", start)


def _model_of(problem: Problem) -> tuple[Arrays, RawResult]:
    arrays = build_model(build_instance(problem), 1.0).linear.arrays()
    return arrays, run_highs(arrays, integer=True, time_limit_s=None, gap=0.0)


@pytest.mark.usefixtures("fresh_worker")
def test_an_overrunning_solver_is_ended_and_its_best_plan_kept(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, truth = _model_of(hard)
    assert truth.values is not None
    _slow_worker(monkeypatch, truth.values.tolist(), truth.objective)
    began = time.perf_counter()
    result = solve_guarded(arrays, time_limit_s=0.5, gap=0.0)
    assert time.perf_counter() - began < 30
    assert result.status == "stopped"
    assert result.objective == truth.objective
    assert result.bound == -4.0
    assert watchdog._WORKER._process is None


@pytest.mark.usefixtures("fresh_worker")
def test_without_a_plan_in_time_the_best_simple_one_is_returned(
    hard: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tuple(h.model_copy(update={"memory_bytes": 40.0}) for h in hard.hosts)
    problem = hard.changed(hosts=hosts).constrained(max_segments={"h1": 2}, contiguous=False)
    monkeypatch.setattr(
        solving,
        "run_highs",
        lambda *_, **__: RawResult("stopped", None, float("inf"), float("-inf")),
    )
    _slow_worker(monkeypatch, [], 0.0)
    answer = solve(problem, time_limit_s=0.5)
    assert answer.status == "feasible"
    assert answer.solver in (
        "device-only",
        "edge-only",
        "greedy",
        "single-cut",
        "minimum-cut",
        "even-split",
        "random",
    )
    assert answer.gap is None or answer.gap > 0
    assert answer.evaluation is not None and not answer.evaluation.violations


@pytest.mark.usefixtures("fresh_worker")
def test_interrupt_returns_the_best_plan(hard: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, truth = _model_of(hard)
    assert truth.values is not None
    _slow_worker(monkeypatch, truth.values.tolist(), truth.objective)
    seen = threading.Event()
    improved = watchdog._improved

    def notice(*arguments: Any) -> RawResult:
        result = improved(*arguments)
        if result.values is not None:
            seen.set()
        return result

    monkeypatch.setattr(watchdog, "_improved", notice)

    def interrupt() -> None:
        seen.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = solve_guarded(arrays, time_limit_s=None, gap=0.0)
    thread.join()
    assert result.status == "stopped"
    assert result.objective == truth.objective


@pytest.mark.usefixtures("fresh_worker")
def test_a_killed_worker_is_an_error_and_the_next_call_starts_another(hard: Problem) -> None:
    arrays, truth = _model_of(hard)
    assert solve_guarded(arrays, time_limit_s=None, gap=0.0).objective == truth.objective
    process = watchdog._WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    assert solve_guarded(arrays, time_limit_s=None, gap=0.0).objective == truth.objective


def test_cbc_and_highs_agree() -> None:
    for seed in range(12):
        data = random_problem(seed, hosts=3, ops=10, shape="star", objective="throughput")
        for host in data["hosts"]:
            host["memory_bytes"] = 25
        model = build_model(build_instance(Problem.from_dict(data)), 1.0)
        first = run_highs(model.linear.arrays(), integer=True, time_limit_s=None, gap=0.0)
        second = run_cbc(model.linear, time_limit_s=None, gap=0.0)
        assert first.status == second.status
        if first.status == "optimal":
            assert first.objective == pytest.approx(second.objective, rel=1e-6)


@pytest.mark.parametrize("options", [{"time_limit_s": 0}, {"time_limit_s": -1.0}, {"gap": 1.0}])
def test_limits_that_make_no_sense(hard: Problem, options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        solve(hard, **options)


def test_gap_is_honest(hard: Problem) -> None:
    best, _, _ = brute_force(hard)
    answer = solve(hard, gap=0.5)
    assert answer.objective is not None and answer.bound is not None and answer.gap is not None
    assert answer.bound <= best * (1 + 1e-6)
    assert answer.objective >= best * (1 - 1e-6)
    assert answer.gap <= 0.5


def test_standard_output_stays_clean(hard: Problem, capfd: pytest.CaptureFixture[str]) -> None:
    solve(hard)
    solve(hard.constrained(deadline_s=1e-3))
    assert capfd.readouterr().out == ""
