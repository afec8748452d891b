"""Runs HiGHS in a worker process, ends it when it overruns, and keeps its best plan."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from partc.errors import OptimizerError
from partc.optimizer.highs import RawResult
from partc.optimizer.highs_worker import read_message, write_message
from partc.optimizer.linear import Arrays

_GRACE_S = 1.0
_SLICE_S = 0.25
_GRACE_SHARE = 0.05


class _Worker:
    """One process, started on first use and again after it was ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def pipes(self) -> tuple[BinaryIO, BinaryIO]:
        if self._process is None or self._process.poll() is not None:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "partc.optimizer.highs_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]

    def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_WORKER = _Worker()
atexit.register(_WORKER.end)


def solve_guarded(
    arrays: Arrays,
    *,
    time_limit_s: float | None,
    gap: float,
    integer: bool = True,
    strict: bool = False,
) -> RawResult:
    """Solve the model, or its relaxation, in the worker.

    After `time_limit_s` (and a little grace) the worker is ended; so it is on Ctrl-C. Either way
    the best plan and bound that it had reported are returned with status "stopped".

    Raises:
        OptimizerError: the worker died by itself.
    """
    began = time.perf_counter()
    request = {
        "arrays": arrays,
        "integer": integer,
        "time_limit_s": time_limit_s,
        "gap": gap,
        "strict": strict,
    }
    best = RawResult("stopped", None, float("inf"), float("-inf"))
    with _WORKER.lock:
        try:
            requests, replies = _WORKER.pipes()
            write_message(requests, request)
            # Starting the worker and sending the model is not the solver's time.
            allowed_s = (
                None
                if time_limit_s is None
                else time.perf_counter()
                - began
                + time_limit_s
                + max(_GRACE_S, _GRACE_SHARE * time_limit_s)
            )
            while True:
                message = _next_message(replies, began, allowed_s)
                if message is None:
                    _WORKER.end()
                    return best
                if message[0] == "result":
                    result: RawResult = message[1]
                    return _merged(result, best)
                best = _improved(best, *message[1:])
        except KeyboardInterrupt:
            _WORKER.end()
            return best
        except (OSError, EOFError) as error:
            _WORKER.end()
            raise OptimizerError(f"The HiGHS worker process died: {error}.") from error


def _next_message(replies: BinaryIO, began: float, allowed_s: float | None) -> Any:
    """The worker's next message; None when time is up."""
    end_s = float("inf") if allowed_s is None else began + allowed_s
    # In slices: a signal that comes just before select blocks is seen only when select returns.
    while not select.select([replies], [], [], max(0.0, min(_SLICE_S, end_s - _now_s())))[0]:
        if _now_s() >= end_s:
            return None
    message = read_message(_Whole(replies))  # type: ignore[arg-type]
    if message is None:
        raise EOFError("it closed its pipe")
    return message


def _now_s() -> float:
    return time.perf_counter()


class _Whole:
    """Reads from an unbuffered pipe exactly as much as is asked for."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            part = self._pipe.read(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _improved(
    best: RawResult, values: npt.NDArray[np.float64] | None, objective: float, bound: float
) -> RawResult:
    better = values is not None and objective < best.objective
    return RawResult(
        "stopped",
        values if better else best.values,
        objective if better else best.objective,
        max(best.bound, bound),
    )


def _merged(result: RawResult, best: RawResult) -> RawResult:
    if result.values is None and result.status == "stopped" and best.values is not None:
        return RawResult("stopped", best.values, best.objective, max(best.bound, result.bound))
    return result
