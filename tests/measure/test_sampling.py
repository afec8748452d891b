"""When measuring stops, and what it says of the machine: on made-up clocks and machines."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partc.measure import sampling
from partc.measure.conditions import Conditions
from partc.measure.machine import Snapshot, between, snapshot, usable_cpus
from partc.measure.pinning import allowed_cpus, choose_cpus, pinned
from partc.measure.sampling import measure
from partc.measure.stopping import StoppingRule

RULE = StoppingRule()


def stopped_at(series: Iterator[float], rule: StoppingRule, run_s: float = 0.1) -> tuple[int, str]:
    samples: list[float] = []
    while True:
        samples.append(next(series))
        verdict = rule.verdict(samples, len(samples) * run_s)
        if verdict != "go on":
            return len(samples), verdict


def noise(deviation: float, seed: int = 0) -> Iterator[float]:
    random = np.random.default_rng(seed)
    return (float(random.normal(1.0, deviation)) for _ in itertools.count())


def test_a_quiet_machine_needs_few_runs_and_a_noisy_one_more() -> None:
    counts = [stopped_at(noise(deviation), StoppingRule(repeats=5000, budget_s=1e9))
              for deviation in (0.001, 0.03, 0.1)]  # fmt: skip
    assert [verdict for _, verdict in counts] == ["settled"] * 3
    assert counts[0][0] == 12
    assert 12 <= counts[0][0] <= counts[1][0] < counts[2][0]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 0.2))
def test_what_is_called_settled_is_near_the_truth(seed: int, deviation: float) -> None:
    samples: list[float] = []
    rule = StoppingRule(repeats=2000, budget_s=1e9)
    series = noise(deviation, seed)
    while rule.verdict(samples, 1e6) == "go on":
        samples.append(next(series))
    # Of the interval's five percent that miss, none misses by as much as this.
    assert abs(float(np.median(samples)) - 1) < 3 * rule.precision


def test_runs_or_time_that_are_used_up_end_it() -> None:
    assert stopped_at(noise(0.3), StoppingRule(repeats=40)) == (40, "spent")
    assert stopped_at(noise(0.3), StoppingRule(budget_s=2.0)) == (20, "spent")
    assert stopped_at(noise(0.3), StoppingRule(budget_s=0.0)) == (3, "spent")
    assert stopped_at(noise(0.3), StoppingRule(repeats=1)) == (3, "spent")


def test_short_runs_are_watched_for_a_while() -> None:
    count, verdict = stopped_at(noise(0.001), RULE, run_s=0.005)
    assert (count, verdict) == (89, "settled")


def test_a_drift_is_not_settled() -> None:
    series = (1.0 + n * 5e-3 for n in itertools.count())
    assert stopped_at(series, StoppingRule(repeats=60)) == (60, "spent")


class Machine:
    """Runs that take what a list says, on a machine whose conditions are given for each round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *rounds: Conditions) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []
        self._rounds = iter(rounds)
        clock = types.SimpleNamespace(perf_counter=lambda: self.now_s, sleep=self._sleep)
        monkeypatch.setattr(sampling, "time", clock)
        monkeypatch.setattr(sampling, "between", lambda *args, **also: next(self._rounds))
        monkeypatch.setattr(sampling, "snapshot", lambda cpus: _shot(self.now_s))

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self) -> float:
        self.calls.append("run")
        self.now_s += 0.1
        return 0.1

    def beside(self) -> None:
        self.calls.append("beside")
        self.now_s += 0.1


def _shot(at_s: float) -> Snapshot:
    return Snapshot(at_s, 2, 0.0, 0.0, 0.0, 0.0, None, 0, None)


QUIET, BUSY, BUSIER = (Conditions(cores=2, elsewhere=n) for n in (0.0, 1.0, 2.0))


def test_a_quiet_round_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, QUIET)
    found = measure(machine.run, RULE, 0.05, beside=machine.beside)
    assert found.settled
    assert (found.first_run, len(found.samples_s)) == (3, 12)
    assert machine.calls == ["run", "beside"] * 15


def test_a_busy_round_is_measured_again_and_the_quieter_one_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, BUSIER, BUSY, QUIET)
    found = measure(machine.run, StoppingRule(budget_s=60.0), 0.05)
    assert found.conditions == QUIET
    assert (found.first_run, len(found.samples_s)) == (3 + 24, 12)
    machine = Machine(monkeypatch, BUSY, BUSIER, BUSIER)
    found = measure(machine.run, StoppingRule(repeats=36, budget_s=60.0))
    assert (found.conditions, found.first_run) == (BUSY, 3)
    assert machine.calls.count("run") == 3 + 36


def test_a_busy_machine_does_not_take_more_than_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, *[BUSY] * 100)
    measure(machine.run, StoppingRule(repeats=10_000, budget_s=8.0), 0.05)
    assert machine.now_s <= 8.5


def test_few_runs_that_were_asked_for_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, BUSY)
    found = measure(machine.run, StoppingRule(repeats=3))
    assert len(found.samples_s) == 3
    assert not found.settled


def test_slow_runs_are_warmed_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, QUIET)
    machine.run = lambda: setattr(machine, "now_s", machine.now_s + 5) or 5.0  # type: ignore[method-assign,func-returns-value]
    found = measure(machine.run, RULE)
    assert (found.first_run, len(found.samples_s)) == (1, 3)


def test_a_quiet_machine_is_not_talked_of() -> None:
    assert Conditions().sentence() == ""
    assert Conditions(cores=8, elsewhere=0.5, waited=0.05, temperature_c=90.0).sentence() == ""
    assert Conditions(cores=8, elsewhere=0.5).doubt == 0.0


@pytest.mark.parametrize(
    ("conditions", "part"),
    [
        (Conditions(cores=2, elsewhere=0.9), "other processes used 0.9 of its 2 cores"),
        (Conditions(cores=1, elsewhere=0.9), "0.9 of its 1 core,"),
        (Conditions(cores=2, stolen=0.3), "virtual machines took 15 %"),
        (Conditions(cores=2, waited=0.4), "waited for a core for 40 %"),
        (Conditions(cores=2, stopped=0.2), "quota on processor time stopped it for 20 %"),
        (Conditions(cores=2, throttled=3, temperature_c=97.2), "temperature 3 times at 97 °C"),
        (Conditions(cores=2, clock_change=-0.2), "clock changed by -20 %"),
        (Conditions(cores=2, drift=0.08), "drifted by +8 %"),
    ],
)
def test_each_finding_is_said_with_its_number(conditions: Conditions, part: str) -> None:
    said = conditions.sentence("the node")
    assert part.rstrip(",") in said
    assert said.startswith("the node was not quiet")
    assert "--fresh" in said
    assert not conditions.is_quiet


@settings(deadline=None)
@given(
    st.builds(
        Conditions,
        cores=st.integers(0, 64),
        elsewhere=st.floats(0, 64),
        stolen=st.floats(0, 64),
        waited=st.floats(0, 1),
        stopped=st.floats(0, 1),
        clock_change=st.floats(-0.9, 2),
        throttled=st.integers(0, 9),
        drift=st.floats(-0.9, 2),
    )
)
def test_doubt_is_a_share_and_speaks_only_with_a_finding(conditions: Conditions) -> None:
    assert 0 <= conditions.doubt <= 2
    assert bool(conditions.sentence()) == (not conditions.is_quiet)
    if conditions.is_quiet:
        assert conditions.doubt == 0


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    def state(busy: int, steal: int, khz: int, throttled: int, stopped_us: int) -> None:
        lines = [f"cpu{n} {busy} 0 {busy} 500 9 0 0 {steal} 0 0" for n in range(3)]
        write(tmp_path, "proc/stat", "\n".join(["cpu 1 2 3", *lines, "intr 1 2"]))
        for n in range(3):
            cpu = f"sys/devices/system/cpu/cpu{n}"
            write(tmp_path, f"{cpu}/cpufreq/scaling_cur_freq", f"{khz}\n")
            write(tmp_path, f"{cpu}/thermal_throttle/core_throttle_count", f"{throttled}\n")
        write(tmp_path, "proc/self/cgroup", "0::/user/mine\n")
        write(
            tmp_path,
            "sys/fs/cgroup/user/mine/cpu.stat",
            f"usage_usec 5\nthrottled_usec {stopped_us}\n",
        )
        write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "81500\n")
        write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "999999999\n")

    ticks = os.sysconf("SC_CLK_TCK")
    state(0, 0, 2_000_000, 1, 0)
    before = snapshot({0, 2}, tmp_path)
    state(5 * ticks, ticks, 1_500_000, 3, 2_000_000)
    after = snapshot({0, 2}, tmp_path)
    # Ten seconds later, of which this process worked four.
    later = Snapshot(
        before.at_s + 10, 2, after.busy_s, after.stolen_s, before.own_s + 4, after.stopped_s,
        after.clock_khz, after.throttled, after.temperature_c,
    )  # fmt: skip
    found = between(before, later, waited=0.1)
    assert found.elsewhere == pytest.approx(1.6)
    assert found.stolen == pytest.approx(0.2)
    assert found.stopped == pytest.approx(0.2)
    assert found.clock_change == pytest.approx(-0.25)
    assert found.throttled == 4
    assert found.temperature_c == 81.5


def test_a_quota_of_the_first_kind_is_read_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "4:cpu,cpuacct:/box\n")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/box/cpu.stat", "throttled_time 3000000000\n")
    assert snapshot({0}, tmp_path).stopped_s == pytest.approx(3.0)


@pytest.mark.parametrize("text", ["", "cpu0\n", "cpu0 a b c\n", "\0\xff\n", "cpux 1\n"])
def test_a_machine_that_shows_nothing_or_nonsense_is_quiet(tmp_path: Path, text: str) -> None:
    for name in ("proc/stat", "proc/self/cgroup", "sys/fs/cgroup/cpu.stat",
                 "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
                 "sys/class/thermal/thermal_zone0/temp"):  # fmt: skip
        write(tmp_path, name, text)
    before = snapshot({0}, tmp_path)
    time.sleep(0.01)
    assert between(before, snapshot({0}, tmp_path)).is_quiet
    assert between(before, snapshot({0}, tmp_path / "none")).is_quiet


def test_this_machine_is_read(tmp_path: Path) -> None:
    found = snapshot()
    assert found.cores == len(usable_cpus())
    assert found.own_s > 0
    if sys.platform == "linux":
        assert found.busy_s > 0


def test_the_work_of_another_process_is_seen() -> None:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    loop = "import time; end = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    before = snapshot()
    others = [subprocess.Popen([sys.executable, "-c", loop]) for _ in usable_cpus()]
    try:
        time.sleep(1.0)
        found = between(before, snapshot())
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert found.elsewhere > 0.5


def test_pinning_keeps_to_as_many_processors_and_undoes_it() -> None:
    before = usable_cpus()
    with pinned(1) as chosen:
        assert len(chosen) == 1
        assert usable_cpus() == chosen
        assert allowed_cpus() == before
        started: list[frozenset[int]] = []
        thread = threading.Thread(target=lambda: started.append(usable_cpus()))
        thread.start()
        thread.join()
        assert started == [chosen]
    assert usable_cpus() == before
    with pytest.raises(RuntimeError), pinned(1):
        raise RuntimeError
    assert usable_cpus() == before
    with pinned(len(before) + 5) as chosen:
        assert chosen == before


def test_where_pinning_is_forbidden_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    before = usable_cpus()
    with pinned(1) as chosen:
        assert chosen == before


def test_threads_go_to_cores_of_their_own(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,4", "1,5", "2-3", "2-3", "0,4", "1,5"]):
        name = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        write(tmp_path, name, siblings + "\n")
    fields = ["S", *["0"] * 35, "5", "0"]
    write(tmp_path, "proc/thread-self/stat", f"12 (a (b) c) {' '.join(fields)}\n")
    assert choose_cpus(range(6), 1, tmp_path) == {5}
    assert choose_cpus(range(6), 3, tmp_path) == {5, 0, 2}
    assert len(choose_cpus(range(6), 4, tmp_path)) == 4
    assert choose_cpus(range(6), 9, tmp_path) == set(range(6))
