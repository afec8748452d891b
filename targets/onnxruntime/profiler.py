"""Measures a model on this machine, kernel by kernel, as it will be deployed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError
from partc.targets.onnxruntime.fusion import OptimisedModel, optimise
from partc.targets.onnxruntime.runner import first_line, open_session, session_options
from partc.targets.protocol import Array, Profile, RunSettings

_WARMUP_RUNS = 3
_FEWEST_RUNS = 3
_KERNEL_SUFFIX = "_kernel_time"


def profile(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    settings: RunSettings,
    repeats: int,
    budget_s: float,
) -> Profile:
    """Kernel times per op, and times of whole runs with profiling off, interleaved.

    Interleaving puts both under the same background load, so their ratio can be trusted even
    where the machine is noisy.

    Raises:
        TargetError: the model does not run on ``feeds``.
    """
    optimised = optimise(model, settings)
    data = model.SerializeToString()
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        plain = open_session(data, session_options(settings))
        options = session_options(settings)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        profiled = open_session(data, options)
        try:
            for session in (plain, profiled):
                for _ in range(_WARMUP_RUNS):
                    session.run(None, dict(feeds))
            whole_s: list[float] = []
            begun = time.perf_counter()
            for run in range(repeats):
                if run >= _FEWEST_RUNS and time.perf_counter() - begun > budget_s:
                    break
                started = time.perf_counter()
                plain.run(None, dict(feeds))
                whole_s.append(time.perf_counter() - started)
                profiled.run(None, dict(feeds))
        except Exception as error:
            raise TargetError(
                f"the model does not run on the sample input: {first_line(error)}; "
                "give an input that it accepts with --input"
            ) from error
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    runs = list(_runs(events))[_WARMUP_RUNS:]
    return Profile(op_s=_op_samples(runs, optimised), whole_s=tuple(whole_s))


def _runs(events: list[dict[str, Any]]) -> Iterator[list[tuple[str, float]]]:
    """For each run its kernels in order: node name and seconds."""
    kernels = sorted(
        (
            event
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_SUFFIX)
        ),
        key=lambda event: float(event["ts"]),
    )
    ends = sorted(
        float(event["ts"]) + float(event["dur"])
        for event in events
        if event.get("cat") == "Session" and event["name"] == "model_run"
    )
    position = 0
    for end in ends:
        run: list[tuple[str, float]] = []
        while position < len(kernels) and float(kernels[position]["ts"]) <= end:
            event = kernels[position]
            run.append((event["name"].removesuffix(_KERNEL_SUFFIX), float(event["dur"]) * 1e-6))
            position += 1
        yield run


def _op_samples(
    runs: list[list[tuple[str, float]]], optimised: OptimisedModel
) -> dict[str, tuple[float, ...]]:
    samples: dict[str, list[float]] = {}
    for number, run in enumerate(runs):
        indices = optimised.kernel_by_event(name for name, _ in run)
        last: str | None = None
        for (_, duration_s), index in zip(run, indices, strict=True):
            # Kernels inside of a body run within their control-flow op's own time.
            op = optimised.op_of(index) if index is not None else None
            if index is None and last is not None:
                continue
            op = op or _first_op(optimised)
            last = op
            row = samples.setdefault(op, [])
            row.extend([0.0] * (number + 1 - len(row)))
            row[number] += duration_s
    for row in samples.values():
        row.extend([0.0] * (len(runs) - len(row)))
    return {op: tuple(row) for op, row in samples.items()}


def _first_op(optimised: OptimisedModel) -> str:
    return optimised.program.placed_ops[0].name
