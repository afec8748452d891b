"""Which hosts are believed to be down, with a probe that the test answers."""

from __future__ import annotations

import threading
import time

from partc.runtime.health import PeerHealth
from tests.runtime.test_executor import wait_until


class Probe:
    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.asked: list[tuple[str, float]] = []

    def __call__(self, host: str, timeout_s: float) -> str | None:
        self.asked.append((host, time.monotonic()))
        return None if host in self.ready else "still down"


def watching(probe: Probe) -> PeerHealth:
    return PeerHealth(probe, first_probe_s=0.02, longest_interval_s=0.05, timeout_s=0.1)


def probes_running() -> int:
    return sum(thread.name == "partc-probe" for thread in threading.enumerate())


def test_a_host_is_down_until_a_probe_finds_it_ready() -> None:
    probe = Probe()
    health = watching(probe)
    assert health.why_down("a") is None
    health.mark_down("a", "it hung")
    assert health.why_down("a") == "it hung"
    assert health.why_down("b") is None
    wait_until(lambda: len(probe.asked) >= 3)
    assert health.why_down("a") == "it hung"
    probe.ready.add("a")
    wait_until(lambda: health.why_down("a") is None)
    health.close()


def test_probing_ends_when_all_are_up_and_begins_again() -> None:
    probe = Probe()
    probe.ready.add("a")
    before = probes_running()
    health = watching(probe)
    for _ in range(2):
        health.mark_down("a", "it hung")
        wait_until(lambda: health.why_down("a") is None)
        wait_until(lambda: probes_running() == before)
        health.note_answer("a")
    health.close()


def test_closing_ends_probing() -> None:
    probe = Probe()
    health = watching(probe)
    before = probes_running()
    health.mark_down("a", "it hung")
    assert probes_running() == before + 1
    health.close()
    wait_until(lambda: probes_running() == before)
    health.mark_down("a", "it hung")
    assert probes_running() == before, "nothing starts after closing"


def test_a_host_that_answers_probes_only_is_trusted_less_each_time() -> None:
    probe = Probe()
    probe.ready.add("a")
    health = watching(probe)
    down_s = []
    for _ in range(4):
        start_s = time.monotonic()
        health.mark_down("a", "it did not answer")
        wait_until(lambda: health.why_down("a") is None)
        down_s.append(time.monotonic() - start_s)
    assert down_s[3] >= 0.16
    health.note_answer("a")
    start_s = time.monotonic()
    health.mark_down("a", "it did not answer")
    wait_until(lambda: health.why_down("a") is None)
    assert time.monotonic() - start_s < 0.16
    health.close()
