"""Child processes that do not outlive this one."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from partc.errors import PartcError


class Child:
    """A ``python -m MODULE`` process that prints one line when it is ready.

    Its standard input is a pipe from this process: when this process ends, however it ends, the
    pipe ends and the child with it. It has a process group of its own, so that Ctrl-C reaches
    this process alone, which then stops its children in order; and if it is stopped (SIGSTOP)
    when this process ends, the system wakes and hangs up the orphaned group.
    """

    def __init__(self, what: str, module: str, arguments: list[str]) -> None:
        self._what = what
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,
            env=_environment(),
        )
        self._first_line: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read_first_line, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ready_line(self, timeout_s: float) -> str:
        """What it prints when it is ready.

        Raises:
            PartcError: it ended instead, or took too long.
        """
        try:
            line = self._first_line.get(timeout=timeout_s)
        except queue.Empty:
            raise PartcError(f"{self._what} was not ready after {timeout_s:.0f} s") from None
        if line:
            return line
        self._process.wait(timeout_s)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise PartcError(
            f"{self._what} could not start: "
            + (said[-1] if said else f"it ended with exit code {self._process.returncode}")
        )

    def tell(self, line: str) -> None:
        """Write one line to its standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read_first_line(self) -> None:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline().decode().strip()
        except (OSError, ValueError):
            line = ""
        self._first_line.put(line)


def free_addresses(count: int) -> list[str]:
    """Addresses of this machine at which nothing listens just now."""
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in bound]


def _environment() -> dict[str, str]:
    """Children import what this process imports, installed or not."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path}
