"""Measures a model on this machine, kernel by kernel, as it will be deployed."""

from __future__ import annotations

import time
from collections.abc import Mapping

import onnx

from partc.errors import TargetError
from partc.ir.program import Program
from partc.targets.clocks import timed
from partc.targets.loading import loadable
from partc.targets.openvino.compiling import compile_model, read_model
from partc.targets.openvino.fusion import RuntimeModel, runtime_model
from partc.targets.openvino.naming import Numbered
from partc.targets.openvino.runner import OpenVinoRunner
from partc.targets.protocol import Array, Profile, RunSettings, Sampling

_WARMUP_RUNS = 3
_FEWEST_RUNS = 3


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
    whole_s: list[float] = []
    counted: list[dict[str, float]] = []
    with loadable(numbered.model) as source:
        compiled = compile_model(read_model(source), settings, counting=True)
        kernels = runtime_model(compiled, numbered)
        with (
            OpenVinoRunner(source, settings) as plain,
            OpenVinoRunner.of(compiled, numbered.model, settings) as counting,
        ):
            try:
                for runner in (plain, counting):
                    for _ in range(_WARMUP_RUNS):
                        runner.run(feeds)
            except TargetError as error:
                raise TargetError(
                    f"the model does not run on the sample input: {error}; "
                    "give an input that it accepts with --input"
                ) from error
            begun = time.perf_counter()
            for run in range(max(sampling.repeats, _FEWEST_RUNS)):
                if run >= _FEWEST_RUNS and time.perf_counter() - begun > sampling.budget_s:
                    break
                time.sleep(sampling.pause_s)
                _, busy_s = timed(lambda: plain.run(feeds), plain.clock, settings.threads)
                whole_s.append(busy_s)
                time.sleep(sampling.pause_s)
                counting.run(feeds)
                counted.append(counting.kernel_times())
    return Profile(op_s=_op_samples(counted, kernels), whole_s=tuple(whole_s))


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
