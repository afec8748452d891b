"""The time that counts is the time for which the hardware was busy, wherever it computes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from partc.runtime.pacing import run_slowed
from partc.targets.clocks import ClockKind, clock_of, timed
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import load_backend
from tests.support.nasty_models import parsed

BUSY_S = 0.02


def burn() -> None:
    """Keep this thread busy for a while of its own time."""
    end_s = time.thread_time() + BUSY_S
    while time.thread_time() < end_s:
        pass


def burn_elsewhere() -> None:
    """The same, in a thread of one's own, as some backends compute."""
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()


def test_waiting_is_no_work_of_the_caller() -> None:
    _, busy_s = timed(lambda: time.sleep(0.05), "caller")
    assert busy_s < 0.05
    _, busy_s = timed(burn, "caller")
    assert busy_s >= BUSY_S


def test_work_in_other_threads_is_seen_by_the_clock_of_the_process() -> None:
    _, unseen_s = timed(burn_elsewhere, "caller")
    assert unseen_s < BUSY_S
    _, busy_s = timed(burn_elsewhere, "process")
    assert busy_s >= BUSY_S * 0.99
    _, wall_s = timed(burn_elsewhere, "wall")
    assert wall_s >= BUSY_S * 0.99


def test_other_threads_of_the_process_count_up_to_the_wall_time_only() -> None:
    others = [threading.Thread(target=burn) for _ in range(2)]
    for other in others:
        other.start()
    started_s = time.perf_counter()
    _, busy_s = timed(lambda: time.sleep(0.01), "process")
    assert busy_s <= time.perf_counter() - started_s
    for other in others:
        other.join()


@pytest.mark.parametrize("clock", ["caller", "process", "wall"])
def test_with_several_threads_only_the_wall_time_is_known(clock: ClockKind) -> None:
    _, busy_s = timed(lambda: time.sleep(0.02), clock, threads=2)
    assert busy_s >= 0.02


@pytest.mark.parametrize(
    ("work", "clock"), [(burn, "caller"), (burn_elsewhere, "process"), (burn_elsewhere, "wall")]
)
def test_a_slower_machine_is_slower_wherever_it_computes(work: object, clock: ClockKind) -> None:
    assert callable(work)
    _, seconds = run_slowed(work, 4.0, 1, clock)
    assert seconds >= 4.0 * BUSY_S * 0.98


def test_backends_declare_where_they_compute() -> None:
    model = parsed("g (float[2] x) => (float[2] y) {y = Relu(x)}", {}).model
    data = model.SerializeToString()
    for name, clock in (("onnxruntime", "caller"), ("openvino", "process")):
        with load_backend(name).runner(data, RunSettings()) as runner:
            assert clock_of(runner) == clock
    assert clock_of(object()) == "wall"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runs_are_timed_by_the_backends_own_clock(name: str) -> None:
    model = parsed("g (float[2] x) => (float[2] y) {y = Relu(x)}", {}).model
    meter = LocalMeter(load_backend(name))
    feeds = {"x": np.ones(2, np.float32)}
    samples = meter.run_times(model, feeds, RunSettings(), Sampling(3, 1.0, 0.0))
    assert len(samples) >= 3
    assert all(second > 0 for second in samples)


def test_openvino_with_one_thread_uses_one_core() -> None:
    """Its process clock may count no more than one thread's work."""
    side = 256
    graph = f"g (float[{side},{side}] x) => (float[{side},{side}] y) {{y = MatMul(x, x)}}"
    data = parsed(graph, {}).model.SerializeToString()
    feeds = {"x": np.ones((side, side), np.float32)}
    with load_backend("openvino").runner(data, RunSettings(threads=1)) as runner:
        runner.run(feeds)
        started_s, process_s = time.perf_counter(), time.process_time()
        for _ in range(20):
            runner.run(feeds)
        process_s = time.process_time() - process_s
        assert process_s <= (time.perf_counter() - started_s) * 1.05
