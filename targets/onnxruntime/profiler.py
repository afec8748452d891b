"""Measures a model on this machine, kernel by kernel, as it will be deployed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx

from partc.errors import TargetError
from partc.measure.pinning import pinned
from partc.measure.sampling import Measurement, measure
from partc.targets.clocks import ClockKind, timed
from partc.targets.loading import loadable
from partc.targets.onnxruntime.fusion import OptimisedModel, optimise
from partc.targets.onnxruntime.providers import clock_for
from partc.targets.onnxruntime.runner import first_line, open_session, session_options
from partc.targets.protocol import Array, Profile, RunSettings, Sampling

_KERNEL_SUFFIX = "_kernel_time"


def profile(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    settings: RunSettings,
    sampling: Sampling,
) -> Profile:
    """Kernel times per op, and times of whole runs with profiling off, interleaved.

    Interleaving puts both under the same background load, so their ratio can be trusted even
    where the machine is noisy.

    Raises:
        TargetError: the model does not run on ``feeds``.
    """
    optimised = optimise(model, settings)
    with (
        tempfile.TemporaryDirectory(prefix="partc-") as folder,
        loadable(model) as source,
        pinned(settings.threads) if sampling.pinned else nullcontext(),
    ):
        plain = open_session(source, session_options(settings), settings)
        options = session_options(settings)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        profiled = open_session(source, options, settings)
        try:
            whole = _interleaved(
                plain, profiled, feeds, sampling, clock_for(settings), settings.threads
            )
        except Exception as error:
            raise TargetError(
                f"the model does not run on the sample input: {first_line(error)}; "
                "give an input that it accepts with --input"
            ) from error
        finally:
            written = Path(profiled.end_profiling())
        events = json.loads(written.read_text(encoding="utf-8"))
    bodied = {kernel.name for kernel in optimised.kernels if _has_bodies(kernel)}
    first, count = whole.first_run, len(whole.samples_s)
    runs = list(kernels_of_runs(events, bodied))[first : first + count]
    return Profile(
        op_s=op_samples(runs, optimised),
        whole_s=whole.samples_s,
        settled=whole.settled,
        conditions=whole.conditions,
    )


def _interleaved(
    plain: Any,
    profiled: Any,
    feeds: Mapping[str, Array],
    sampling: Sampling,
    clock: ClockKind,
    threads: int,
) -> Measurement:
    """Runs without profiling, each followed by one with it."""

    def run() -> float:
        return timed(lambda: plain.run(None, dict(feeds)), clock, threads)[1]

    return measure(
        run, sampling.rule, sampling.pause_s, beside=lambda: profiled.run(None, dict(feeds))
    )


def _has_bodies(kernel: onnx.NodeProto) -> bool:
    return any(a.HasField("g") or a.graphs for a in kernel.attribute)


def kernels_of_runs(
    events: list[dict[str, Any]], bodied: Collection[str]
) -> Iterator[list[tuple[str, float]]]:
    """For each run its kernels in order: node name and seconds.

    Args:
        bodied: kernels with bodies, such as If. Kernels of the bodies have events of their own
            within the time of the kernel around them, where they count already.
    """
    kernels = sorted(
        (
            event
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_SUFFIX)
        ),
        key=lambda event: (float(event["ts"]), -float(event["dur"])),
    )
    ends = sorted(
        float(event["ts"]) + float(event["dur"])
        for event in events
        if event.get("cat") == "Session" and event["name"] == "model_run"
    )
    position = 0
    for end in ends:
        run: list[tuple[str, float]] = []
        body_ends = 0.0
        while position < len(kernels) and float(kernels[position]["ts"]) <= end:
            event = kernels[position]
            position += 1
            name = event["name"].removesuffix(_KERNEL_SUFFIX)
            started, duration = float(event["ts"]), float(event["dur"])
            if started + duration <= body_ends:
                continue
            if name in bodied:
                body_ends = started + duration
            run.append((name, duration * 1e-6))
        yield run


def op_samples(
    runs: list[list[tuple[str, float]]], optimised: OptimisedModel
) -> dict[str, tuple[float, ...]]:
    """For each op one sample a run; the time of every kernel counts for one op."""
    samples: dict[str, list[float]] = {}
    if not optimised.program.placed_ops:
        return {}
    for number, run in enumerate(runs):
        indices = optimised.kernel_by_event(name for name, _ in run)
        last = optimised.program.placed_ops[0].name
        for (_, duration_s), index in zip(run, indices, strict=True):
            # A kernel that the saved graph does not have was inserted after the one before it.
            last = (optimised.op_of(index) if index is not None else None) or last
            row = samples.setdefault(last, [0.0] * len(runs))
            row[number] += duration_s
    return {op: tuple(row) for op, row in samples.items()}
