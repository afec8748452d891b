"""How long a slowed host takes, against the processor time that its work really used."""

from __future__ import annotations

import time

import pytest

from partc.runtime.pacing import run_slowed, sleep_until


def work(used_s: list[float]) -> str:
    start_s = time.thread_time()
    while time.thread_time() - start_s < 0.02:
        pass
    used_s.append(time.thread_time() - start_s)
    return "done"


@pytest.mark.parametrize("slowdown", [1.0, 2.0, 4.0])
def test_the_wait_follows_the_processor_time(slowdown: float) -> None:
    excess_s: list[float] = []
    # A busy machine wakes sleepers late now and then, never early.
    while len(excess_s) < 20 and (not excess_s or min(excess_s) >= 0.002):
        used_s: list[float] = []
        worked_s: list[float] = []

        def timed() -> str:
            start_s = time.perf_counter()
            result = work(used_s)  # noqa: B023 - called at once
            worked_s.append(time.perf_counter() - start_s)  # noqa: B023
            return result

        result, seconds = run_slowed(timed, slowdown, threads=1)
        assert result == "done"
        excess_s.append(seconds - worked_s[0] - (slowdown - 1) * used_s[0])
    assert min(excess_s) > -0.0005
    assert min(excess_s) < 0.002


def test_with_several_threads_the_wall_time_counts() -> None:
    taken_s = [run_slowed(lambda: time.sleep(0.02), 3.0, threads=2)[1] for _ in range(5)]
    assert 0.06 <= min(taken_s) < 0.09


def test_sleeping_is_accurate_and_never_short() -> None:
    late_s = []
    for _ in range(20):
        moment_s = time.perf_counter() + 0.003
        sleep_until(moment_s)
        late_s.append(time.perf_counter() - moment_s)
    assert min(late_s) >= 0
    assert min(late_s) < 0.0005
