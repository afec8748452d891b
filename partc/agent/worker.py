"""Carries out jobs one after the other, as a process of its own: ``python -m partc.agent.worker``.

A job may run a model that crashes its backend, and has to end when it is cancelled; neither may
take the agent with it. Jobs come as lines of JSON on standard input, answers go to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from partc.agent.messages import (
    Feed,
    Job,
    Subject,
    answer_to_plain,
    sampling_of,
    settings_of,
)
from partc.errors import PartcError, RequestError

Tell = Callable[[dict[str, Any]], None]


def carry_out(job: Job, blobs: Path, tell: Tell) -> tuple[dict[str, Any], str]:
    """The answer to a job, and the fingerprint of what was measured.

    Args:
        tell: called with what a builder is at.

    Raises:
        PartcError: it cannot be carried out here.
    """
    from partc.targets.meter import LocalMeter
    from partc.targets.registry import load_backend

    if job.kind in ("builders", "build"):
        from partc.agent.engine_jobs import build_engine, find_builders

        if job.kind == "builders":
            return find_builders(job), ""
        return build_engine(job, blobs, tell), ""
    meter = LocalMeter(load_backend(job.backend), job.provider)
    detected = meter.detect()
    if job.kind == "detect":
        return answer_to_plain(detected), detected.fingerprint
    if not detected.available:
        raise RequestError(f"backend {job.backend!r} does not work there: {detected.reason}")
    models = [_model(subject, blobs) for subject in job.subjects]
    if len(models) != 1 and job.kind != "interleaved":
        raise RequestError(f"a job of kind {job.kind!r} needs one model, not {len(models)}")
    if job.kind == "unsupported":
        return answer_to_plain(meter.unsupported(models[0])), detected.fingerprint
    settings = settings_of(job)
    if job.kind == "fused-groups":
        return answer_to_plain(meter.fused_groups(models[0], settings)), detected.fingerprint
    fed = [{f.name: _array(f, blobs) for f in subject.feeds} for subject in job.subjects]
    sampling = sampling_of(job)
    if job.kind == "profile":
        found: Any = meter.profile(models[0], fed[0], settings, sampling)
    elif job.kind == "run-times":
        found = meter.measure_runs(models[0], fed[0], settings, sampling)
    else:
        jobs = list(zip(models, fed, strict=True))
        found = meter.interleaved_times(jobs, settings, sampling)
    return answer_to_plain(found), detected.fingerprint


def _model(subject: Subject, blobs: Path) -> Any:
    from partc.agent.packing import unpack

    return unpack(
        (blobs / subject.graph).read_bytes(), lambda digest: (blobs / digest).read_bytes()
    )


def _array(feed: Feed, blobs: Path) -> Any:
    from partc.runtime.wire.datatypes import from_raw

    return from_raw(feed.name, feed.datatype, feed.shape, (blobs / feed.sha256).read_bytes())


def main(arguments: list[str] | None = None) -> int:
    """Work until standard input ends; then end at once, even within a job."""
    blobs = Path((sys.argv[1:] if arguments is None else arguments)[0])
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        line = lines.get()
        try:
            answer, fingerprint = carry_out(Job.read(line), blobs, say)
            said = {"answer": answer, "fingerprint": fingerprint}
        except PartcError as error:
            said = {"error": str(error)}
        except Exception as error:
            said = {"error": f"the job failed unexpectedly: {type(error).__name__}: {error}"}
        say(said)


def _read(lines: SimpleQueue[bytes]) -> None:
    # Not through sys.stdin, whose lock could be held while the process ends.
    unread = b""
    while chunk := os.read(0, 1 << 16):
        unread += chunk
        *whole, unread = unread.split(b"\n")
        for line in whole:
            lines.put(line)
    if os.getpgrp() == os.getpid():  # a builder of its own goes with it
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
