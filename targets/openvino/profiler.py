"""Measures a model on this machine, kernel by kernel, as it will be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import onnx

from partc.errors import TargetError
from partc.ir.program import Program
from partc.measure.pinning import pinned
from partc.measure.sampling import measure
from partc.targets.clocks import timed
from partc.targets.loading import loadable
from partc.targets.openvino.compiling import compile_model, read_model
from partc.targets.openvino.fusion import RuntimeModel, runtime_model
from partc.targets.openvino.naming import Numbered
from partc.targets.openvino.runner import OpenVinoRunner
from partc.targets.protocol import Array, Profile, RunSettings, Sampling


def profile(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    settings: RunSettings,
    sampling: Sampling,
) -> Profile:
    """Kernel times per op, and times of whole runs without counters, interleaved.

    Raises:
        TargetError: the model does not run on ``feeds``.
    """
    numbered = Numbered(Program(model=model))
    counted: list[dict[str, float]] = []
    with (
        loadable(numbered.model) as source,
        pinned(settings.threads) if sampling.pinned else nullcontext(),
    ):
        compiled = compile_model(read_model(source), settings, counting=True)
        kernels = runtime_model(compiled, numbered)
        with (
            OpenVinoRunner(source, settings) as plain,
            OpenVinoRunner.of(compiled, numbered.model) as counting,
        ):

            def run() -> float:
                return timed(lambda: plain.run(feeds), plain.clock, settings.threads)[1]

            def count() -> None:
                counting.run(feeds)
                counted.append(counting.kernel_times())

            try:
                whole = measure(run, sampling.rule, sampling.pause_s, beside=count)
            except TargetError as error:
                raise TargetError(
                    f"the model does not run on the sample input: {error}; "
                    "give an input that it accepts with --input"
                ) from error
    first, runs = whole.first_run, len(whole.samples_s)
    return Profile(
        op_s=_op_samples(counted[first : first + runs], kernels),
        whole_s=whole.samples_s,
        settled=whole.settled,
        conditions=whole.conditions,
    )


def _op_samples(
    counted: list[dict[str, float]], kernels: RuntimeModel
) -> dict[str, tuple[float, ...]]:
    """For each op one sample a run; the time of every kernel counts for one op."""
    samples: dict[str, list[float]] = {}
    for number, run in enumerate(counted):
        for name, duration_s in run.items():
            op = kernels.op_of(name)
            if op is not None:
                row = samples.setdefault(op, [0.0] * len(counted))
                row[number] += duration_s
    return {op: tuple(row) for op, row in samples.items()}
