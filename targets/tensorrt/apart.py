"""Asks a worker process, and makes a sentence of whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from partc.errors import TargetError, UnbuildableError
from partc.targets.tensorrt.flavour import Library

Progress = Callable[[str, float | None], None]

_LONGEST_COMPLAINT = 300
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
# The same memory layout each time (see the worker): sets of text in one order, and large blocks
# from the heap and not from wherever the kernel has room.
_SAME_LAYOUT = {
    "PYTHONHASHSEED": "0",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
}


def ask(
    library: Library,
    job: dict[str, Any],
    *,
    timeout_s: float,
    progress: Progress | None = None,
    folder: Path | None = None,
    files: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Have ``job`` done in a process of its own.

    Args:
        folder: where the process runs; this one's own if None.
        files: open files that it may use.

    Raises:
        UnbuildableError: a builder refuses the segment, or crashes over it.
        TargetError: it could not be done, took longer than ``timeout_s``, or was killed.
        OSError: it could not read or write a file.
    """
    process = subprocess.Popen(
        # -P: modules are not to be found in a folder that may be somebody else's bundle.
        [sys.executable, "-P", "-m", "partc.targets.tensorrt.worker", library.flavour],
        cwd=folder,
        pass_fds=files,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **_SAME_LAYOUT},
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.start()
    complaints: list[str] = []
    assert process.stdin and process.stdout and process.stderr
    reader = threading.Thread(target=lambda: complaints.append(_tail(process.stderr)), daemon=True)
    reader.start()
    answer: dict[str, Any] = {}
    try:
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        for line in process.stdout:
            answer = json.loads(line)
            if progress is not None and "phase" in answer:
                progress(answer["phase"], answer["fraction"])
        status = process.wait()
    except (BrokenPipeError, ValueError):
        status = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(timeout=5.0)
        process.stdout.close()
        process.stderr.close()
    what = f"{library.title}'s {job['job']}"
    if late.is_set():
        raise TargetError(f"{what} took longer than {timeout_s:g} s and was stopped")
    if status < 0:
        kind = UnbuildableError if job["job"] == "build" and -status in _CRASHES else TargetError
        raise kind(f"{what} process {_death(-status)}")
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "error" in answer:
        kind = UnbuildableError if answer.get("is_unbuildable") else TargetError
        raise kind(answer["error"])
    if "done" not in answer:
        complaint = (complaints or [""])[0]
        raise TargetError(f"{what} process ended without an answer: {complaint or 'no reason'}")
    done: dict[str, Any] = answer["done"]
    return done


def _tail(stream: Any) -> str:
    lines = [line for line in stream.read().splitlines() if line.strip()]
    return lines[-1][-_LONGEST_COMPLAINT:] if lines else ""


def _death(number: int) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return "was killed (SIGKILL), perhaps for want of memory; free some and try again"
    if number in _CRASHES:
        return f"crashed ({name}); check that driver and library versions fit each other"
    return f"was ended by {name}"
