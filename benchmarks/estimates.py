"""How far are estimates off? ``OPENBLAS_NUM_THREADS=1 python -m benchmarks.estimates [MODEL ...]``.

A target is described as a data sheet would: its peak is what a large matrix product reaches here on
one thread, divided by the share of the peak that estimates take such products to reach; its
bandwidth likewise, by copying. The whole models are then estimated for that target and measured on
this machine, with every backend that is here. A ratio above 1 is an estimate that is too slow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from examples.models import MODELS
from partc.api import load
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.ingest.sample import sample_feeds
from partc.pipeline import Pipeline
from partc.targets.estimate import estimated_costs
from partc.targets.hardware import Hardware
from partc.targets.meter import LocalMeter
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import Target, load_backend

_REACHED, _REACHED_OF_BANDWIDTH = 0.6, 0.7  # as in partc.targets.estimate, for a processor
_BACKENDS = ("onnxruntime", "openvino")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    target = this_machine()
    hardware = target.hardware
    print(describe_machine())
    print(
        f"taken for a data sheet: {hardware.peak_flop_s['fp32'] / 1e9:.0f} GFLOP/s fp32, "
        f"{(hardware.memory_bandwidth_bytes_per_s or 0) / 1e9:.1f} GB/s"
    )
    print(f"{'model':14} {'backend':12} {'estimated':>10} {'measured':>10} {'ratio':>6}")
    ratios = []
    for name in options.models or ("mobilenetv2", "resnet50", "inceptionv4", "transformer"):
        program = blocked(name)
        estimated_s = estimated_costs(program, target, RunSettings()).whole.median_s
        for backend in _BACKENDS:
            if not load_backend(backend).detect().available:
                continue
            measured_s = measured(program, backend, options.repeats)
            ratios.append(estimated_s / measured_s)
            print(
                f"{name:14} {backend:12} {estimated_s * 1e3:7.1f} ms {measured_s * 1e3:7.1f} ms "
                f"{ratios[-1]:6.2f}"
            )
    print(f"median ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


def this_machine() -> Target:
    """A data sheet of one thread of this machine."""
    side = 1024
    square = np.ones((side, side), np.float32)
    copied = np.ones(2**26, np.float32)
    into = np.empty_like(copied)
    product_s = fastest(lambda: square @ square)
    copy_s = fastest(lambda: np.copyto(into, copied))
    hardware = Hardware(
        kind="cpu",
        peak_flop_s={"fp32": 2 * side**3 / product_s / _REACHED},
        memory_bandwidth_bytes_per_s=2 * copied.nbytes / copy_s / _REACHED_OF_BANDWIDTH,
    )
    return Target("here", "onnxruntime", "", "all", Path("here.toml"), hardware=hardware)


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the thread's own time, of the best of ten."""
    seconds = []
    for _ in range(10):
        started_s = time.thread_time()
        work()
        seconds.append(time.thread_time() - started_s)
    return min(seconds)


def blocked(name: str) -> Program:
    """The model with its blocks."""
    pipeline = Pipeline.parse("infer-shapes,fold-constants,group-blocks")
    return pipeline.run(load(MODELS[name](seed=0)), Topology.parse({"hosts": {"here": {}}}))


def measured(program: Program, backend: str, repeats: int) -> float:
    """Median seconds of the whole model, one run after the other."""
    meter = LocalMeter(load_backend(backend))
    sampling = Sampling(repeats=repeats, budget_s=20.0, pause_s=0.0)
    feeds = sample_feeds(program, 0)
    return statistics.median(meter.run_times(program.model, feeds, RunSettings(), sampling))


if __name__ == "__main__":
    main()
