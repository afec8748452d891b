"""Measures a model as an engine on the GPU of this machine, layer by layer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from partc.errors import MissingBackendError
from partc.ir.engine import EngineRecipe
from partc.targets.protocol import Array, Profile, RunSettings, Sampling
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import Library
from partc.targets.tensorrt.immediate import open_now
from partc.targets.tensorrt.inspector import EngineLayers, read_layers
from partc.targets.tensorrt.layer_names import NameReader, op_times

_WARMUP_RUNS = 5
_FEWEST_RUNS = 3


def profile(
    library: Library,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    settings: RunSettings,
    sampling: Sampling,
) -> Profile:
    """Layer times shared among ops, and times of whole runs without the profiler, interleaved.

    Raises:
        MissingBackendError: there is no GPU here.
        TargetError: the model cannot be built, or does not run on ``feeds``.
    """
    machine = machine_of(library.flavour)
    if machine.gpu is None:
        raise MissingBackendError(f"nothing can be measured on {library.title}: {machine.reason}")
    recipe = EngineRecipe.of(library.flavour, settings.engine)
    whole_s: list[float] = []
    runs: list[list[tuple[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="partc-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with (
            open_now(library, path, recipe, feeds=feeds) as plain,
            open_now(library, path, recipe, feeds=feeds, detailed=True) as observed,
        ):
            layers = read_layers(observed.layer_information())
            for _ in range(_WARMUP_RUNS):
                plain.run(feeds)
                observed.profiled_run(feeds)
            begun = time.perf_counter()
            for run in range(max(sampling.repeats, _FEWEST_RUNS)):
                if run >= _FEWEST_RUNS and time.perf_counter() - begun > sampling.budget_s:
                    break
                time.sleep(sampling.pause_s)
                started = time.perf_counter()
                plain.run(feeds)
                whole_s.append(time.perf_counter() - started)
                runs.append(observed.profiled_run(feeds))
    return Profile(op_s=op_samples(model, layers, runs), whole_s=tuple(whole_s))


def op_samples(
    model: onnx.ModelProto, layers: EngineLayers, runs: Sequence[Sequence[tuple[str, float]]]
) -> dict[str, tuple[float, ...]]:
    """For each op one sample a run, seconds; what belongs to no op is shared by all."""
    ops = [node.name for node in model.graph.node]
    reader = NameReader(ops, layer_tensors(model))
    work = work_of(model)
    rows: dict[str, list[float]] = {}
    for number, run in enumerate(runs):
        attributed = reader.attribute([name for name, _ in run], layers.metadata)
        times, nobody_s = op_times(run, attributed, lambda op: work.get(op, 0.0))
        total_s = sum(times.values())
        scale = (total_s + nobody_s) / total_s if total_s > 0 else 1.0
        for op, seconds in times.items():
            rows.setdefault(op, [0.0] * len(runs))[number] = seconds * scale
    return {op: tuple(row) for op, row in rows.items()}


def layer_tensors(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the op that a layer with the tensor's name works for: its reader, or its maker."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, node.name)
    for node in model.graph.node:
        found.update((name, node.name) for name in node.output if name)
    return found


def work_of(model: onnx.ModelProto) -> dict[str, float]:
    """Rough operations of each op: products with weights count by the weights, others little."""
    sizes = {w.name: float(np.prod(w.dims or [1])) for w in model.graph.initializer}
    return {
        node.name: 1.0 + sum(sizes.get(name, 0.0) for name in node.input)
        for node in model.graph.node
    }
