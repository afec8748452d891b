"""Carries out one job at a time, in a process that can be ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partc.agent.blobs import BlobStore
from partc.agent.messages import Job, JobEvent, printable
from partc.agent.packing import pieces_named_in
from partc.errors import PartcError, RequestError

HEARTBEAT_S = 1.0
QUIET_S = 2.0
"""A node that answered a request so lately is serving."""

IDLE_S = 60.0
"""After that the working process ends, and another one starts with the next job."""

_POLL_S = 0.1
_END_TIMEOUT_S = 5.0
_WHAT = {
    "detect": "looking at its backends",
    "unsupported": "looking which ops it knows",
    "fused-groups": "reading kernel fusion",
    "profile": "profiling a model",
    "run-times": "measuring a segment",
    "interleaved": "measuring segments in turn",
    "builders": "looking which engines it builds",
    "build": "building an engine",
}

_TIMED = frozenset({"profile", "run-times", "interleaved"})


class BusyError(PartcError):
    """The node does something that must not be disturbed, or would disturb."""


class CancelledError(PartcError):
    """Whoever asked no longer waits."""


class Measurer:
    """Carries out jobs.

    Args:
        folder: for what the working process writes.
        requests_seen: how many requests the node has answered so far, and when the last one was,
            by `time.monotonic`.
        while_serving: measure even while requests are being served.
    """

    def __init__(
        self,
        folder: Path,
        blobs: BlobStore,
        blob_folder: Path,
        requests_seen: Callable[[], tuple[int, float]],
        while_serving: bool = False,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._blob_folder = blob_folder
        self._requests_seen = requests_seen
        self._while_serving = while_serving
        self._lock = threading.Lock()
        self._doing: tuple[str, float] | None = None
        self._worker: _Worker | None = None
        self._idle = threading.Timer(0.0, lambda: None)
        self._built: set[str] = set()

    @property
    def doing(self) -> str:
        """What is being measured; empty if nothing is."""
        doing = self._doing
        return f"{doing[0]}, for {time.monotonic() - doing[1]:.0f} s" if doing else ""

    @contextmanager
    def alone(self, what: str, *, is_measured: bool = True) -> Iterator[None]:
        """Keep others from measuring meanwhile.

        Args:
            is_measured: times are taken, which requests would disturb.

        Raises:
            BusyError: somebody measures, or requests are being served.
        """
        if not self._lock.acquire(blocking=False):
            raise BusyError(
                f"it is busy {self.doing or 'measuring'}, and does one such thing at a time; try "
                "again when it is done"
            )
        try:
            undisturbed = is_measured and not self._while_serving
            if undisturbed and time.monotonic() - self._requests_seen()[1] < QUIET_S:
                raise BusyError(
                    "it is busy serving requests, which a measurement would disturb, and be "
                    "disturbed by; try again later, or start the agent with "
                    "--measure-while-serving"
                )
            self._doing = (what, time.monotonic())
            yield
        finally:
            self._doing = None
            self._lock.release()

    def carry_out(self, job: Job, is_wanted: Callable[[], bool]) -> Iterator[JobEvent]:
        """An event now and then, and the answer in the end.

        Args:
            is_wanted: whether somebody still waits.

        Raises:
            BusyError: as `alone`, or requests came meanwhile, which go before.
            CancelledError: nobody waits any longer.
            RequestError: the job is malformed, or cannot be carried out here.
        """
        timed = job.kind in _TIMED
        with self.alone(_WHAT[job.kind], is_measured=timed):
            self._idle.cancel()
            self._check_files(job)
            worker = self._working()
            said: dict[str, Any] | None = None
            try:
                worker.tell(job)
                for said in self._answers(worker, is_wanted, timed and not self._while_serving):
                    if "phase" in said:
                        yield JobEvent(state="measuring", **said)
            finally:
                # Whoever asked may have gone while an event was on its way.
                if said is None or "phase" in said or not worker.is_running:
                    self.end()
                else:
                    self._await_idle()
            assert said is not None
            if "error" in said:
                raise RequestError(printable(str(said["error"])))
            answer = said["answer"]
            if job.kind == "build":
                answer = self._kept(answer)
        # Only now, since whoever has the answer may ask for the next thing at once.
        yield JobEvent(state="done", answer=answer, fingerprint=str(said["fingerprint"]))

    def engine(self, digest: str) -> Path:
        """Where an engine lies that was built here since the agent started.

        Raises:
            RequestError: no such engine was.
        """
        if digest not in self._built:
            raise RequestError("no such engine was built here; have it built again")
        return self._blobs.path(digest)

    def _kept(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Take in the engine that the working process wrote."""
        written = answer.pop("file", None)
        if written is None:
            return answer
        digest, size_bytes = self._blobs.adopt(self._folder / Path(written).name)
        self._built.add(digest)
        return {**answer, "sha256": digest, "size_bytes": size_bytes}

    def _answers(
        self, worker: _Worker, is_wanted: Callable[[], bool], gives_way: bool
    ) -> Iterator[dict[str, Any]]:
        """A phase now and then, and what the worker says in the end.

        Args:
            gives_way: requests that come meanwhile end it.
        """
        seen = self._requests_seen()[0]
        next_event_s = time.monotonic() + HEARTBEAT_S
        doing: dict[str, Any] = {"phase": "", "fraction": None}
        while (said := worker.answer(_POLL_S)) is None or "phase" in said:
            doing = said or doing
            if not is_wanted():
                raise CancelledError("the measurement was cancelled")
            if gives_way and self._requests_seen()[0] != seen:
                raise BusyError(
                    "requests came while it measured, and they go before; try again later, or "
                    "start the agent with --measure-while-serving"
                )
            if time.monotonic() >= next_event_s:
                next_event_s = time.monotonic() + HEARTBEAT_S
                yield doing
        yield said

    def end(self) -> None:
        """End the working process, with whatever it does."""
        self._idle.cancel()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            for left in self._folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def _await_idle(self) -> None:
        """A working process holds the libraries of its backends, which may be half of a node."""
        self._idle = threading.Timer(IDLE_S, self._end_idle)
        self._idle.daemon = True
        self._idle.start()

    def _end_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self.end()
            finally:
                self._lock.release()

    def _check_files(self, job: Job) -> None:
        """All files of a job are there, and are not dropped before it is done."""
        for subject in job.subjects:
            for digest in pieces_named_in(self._blobs.path(subject.graph).read_bytes()):
                self._blobs.path(digest)
            for feed in subject.feeds:
                self._blobs.path(feed.sha256)
        for file in job.engine.files if job.engine is not None else ():
            self._blobs.path(file.sha256)

    def _working(self) -> _Worker:
        if self._worker is None or not self._worker.is_running:
            self._worker = _Worker(self._folder, self._blob_folder)
        return self._worker


class _Worker:
    """The process. It ends with this one, however that ends, since its input ends then."""

    def __init__(self, folder: Path, blobs: Path) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "partc.agent.worker", str(blobs.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder.absolute())},
            process_group=0,
        )
        self._is_ending = False
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="partc-worker", daemon=True).start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def tell(self, job: Job) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # its end is noticed when its answer is waited for
            self._process.stdin.write(job.to_bytes() + b"\n")
            self._process.stdin.flush()

    def answer(self, timeout_s: float) -> dict[str, Any] | None:
        """What it found, or what went wrong; None if it needs longer."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        code = self._process.wait()
        if self._is_ending:
            return {
                "error": "the agent was stopped while it measured; start it again and repeat the "
                "command, what was measured before is kept"
            }
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {
            "error": f"the process that measures ended by {ended}; its backend cannot run this "
            "model, or memory is short"
        }

    def kill(self) -> None:
        self._is_ending = True
        if self.is_running:
            # A builder works in a process of its own, which the working process has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(b"")
