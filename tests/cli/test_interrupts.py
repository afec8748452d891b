"""Ctrl-C and SIGTERM while costs are measured: nothing is left behind, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from partc.measure.store import CostStore
from tests.cli.support import TOPOLOGY, small_model, topology

NO_FIXED = TOPOLOGY.replace("fixed_ms = 0.5\n", "")
OTHER_THREADS = TOPOLOGY.replace("[hosts.server]", "[hosts.server]\nthreads = 2")
_PATIENCE_S = 60.0


class Compilation:
    """``partc compile`` in a process of its own, with folders of its own for everything."""

    def __init__(self, folder: Path, text: str) -> None:
        self.model = small_model(folder / "m.onnx")
        self.topology = topology(folder / "t.toml", text)
        self.store = folder / "costs.sqlite"
        self.bundle = folder / "b"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ, "TMPDIR": str(self.temporary), "PARTC_COSTS": str(self.store),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "partc.cli", "compile", self.model, "-t", self.topology,
             "-o", self.bundle, *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def kinds(self) -> list[str]:
        """Of what is stored by now."""
        if not self.store.exists():
            return []
        return sorted({entry.what.kind for entry in CostStore(self.store).entries()})

    def left_behind(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir() if path.name.startswith("partc-")]


@pytest.fixture
def compiling(tmp_path: Path) -> Iterator[Callable[[str], Compilation]]:
    made: list[Compilation] = []

    def make(text: str) -> Compilation:
        made.append(Compilation(tmp_path, text))
        return made[-1]

    yield make
    for each in made:
        each.end()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_is_left_while_messages_are_measured(
    compiling: Callable[[str], Compilation], number: signal.Signals, code: int
) -> None:
    compilation = compiling(NO_FIXED)
    process = compilation.start("--no-store")
    wait_until(lambda: any(compilation.temporary.glob("partc-*/split")), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == code
    assert "interrupted" in err
    assert "Traceback" not in err
    assert compilation.left_behind() == []
    assert not compilation.bundle.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_measured_stays_and_the_next_run_goes_on_from_there(
    compiling: Callable[[str], Compilation], number: signal.Signals
) -> None:
    compilation = compiling(NO_FIXED)
    process = compilation.start()
    wait_until(lambda: "line-message-per-byte" in compilation.kinds(), process)
    process.send_signal(number)
    process.communicate(timeout=_PATIENCE_S)
    assert not compilation.bundle.exists()
    kept = CostStore(compilation.store).entries()
    again = compilation.start("--json")
    out, err = again.communicate(timeout=_PATIENCE_S)
    assert again.returncode == 0, err
    assert json.loads(out)["bundle"] == str(compilation.bundle)
    after = CostStore(compilation.store).entries()
    assert len(after) > len(kept)
    messages = [entry for entry in after if entry.what.kind.startswith("paused")]
    assert messages == [entry for entry in kept if entry.what.kind.startswith("paused")]


def test_costs_of_one_host_stay_when_the_measuring_of_another_is_interrupted(
    compiling: Callable[[str], Compilation],
) -> None:
    compilation = compiling(OTHER_THREADS)
    process = compilation.start()
    wait_until(lambda: "whole" in compilation.kinds(), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_PATIENCE_S)
    kept = {entry.key: entry for entry in CostStore(compilation.store).entries()}
    again = compilation.start("-v")
    _, err = again.communicate(timeout=_PATIENCE_S)
    assert again.returncode == 0, err
    assert "costs found in the store" in err
    after = {entry.key: entry for entry in CostStore(compilation.store).entries()}
    assert all(after[key] == entry for key, entry in kept.items())


SWALLOWING = """
import threading
from partc.cli import main as command_line

command_line._AGAIN_S = 0.2

@command_line.partc.command("hang")
def hang():
    command_line.raise_if_interrupted()
    threading.Thread(target=threading.Event().wait).start()
    print("ready", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    threading.Event().wait()

command_line.LazyGroup.resolve_command = lambda group, context, args: ("hang", hang, [])
command_line.main(["hang"])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_a_library_swallows_comes_again(
    number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SWALLOWING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == code
    assert "interrupted" in errors and "Traceback" not in errors
