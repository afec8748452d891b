"""Agents as processes of their own, as users start them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_S = 90.0


class AgentProcess:
    """``partc agent`` on a free port of this machine; a context manager.

    Attributes:
        address: where it listens.
        node: its description of itself.
    """

    def __init__(
        self,
        state: Path,
        *options: str,
        listen: str = "127.0.0.1:0",
        temporary: Path | None = None,
        packages: tuple[Path, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        path = os.pathsep.join(map(str, (Path(__file__).resolve().parents[2], *packages)))
        environment = {**os.environ, **(variables or {}), "PYTHONPATH": path}
        environment.pop("PARTC_CREDENTIALS", None)
        if temporary is not None:
            environment["TMPDIR"] = str(temporary)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "partc.cli", "agent", "--listen", listen, "--state", state,
             "--json", "--exit-with-input", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        said = self._first_object()
        self.address: str = said["address"]
        self.node: dict[str, Any] = said["node"]

    def _first_object(self) -> dict[str, Any]:
        found: queue.SimpleQueue[str] = queue.SimpleQueue()

        def read() -> None:
            assert self.process.stdout is not None
            text = ""
            for line in self.process.stdout:
                text += line
                if line.startswith("}"):
                    break
            found.put(text)

        threading.Thread(target=read, daemon=True).start()
        text = found.get(timeout=START_S)
        if not text:
            assert self.process.stderr is not None
            raise AssertionError(f"no agent: {self.process.stderr.read()}")
        said: dict[str, Any] = json.loads(text)
        return said

    def first_words(self) -> str:
        """The first line that it said to people."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self) -> str:
        """End it as a service manager would; what it said to people."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)
