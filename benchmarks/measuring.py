"""How long measuring takes, and whether a cost's interval tells what a later measurement finds.

Measures a model several times over, as ``partc profile`` does, and prints for each time the median,
its interval, runs, seconds and what was said of the machine; then how often the next median lay
within the interval of the one before, and how far apart they were.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

from partc import Topology, load
from partc.measure.statistics import summarise
from partc.passes.ingest.sample import sample_feeds
from partc.pipeline import Pipeline
from partc.report.units import duration
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.registry import load_backend


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument("--pause-ms", type=float, default=50.0)
    parser.add_argument("--not-pinned", action="store_true")
    given = parser.parse_args()
    topology = Topology.parse({"hosts": {"here": {"threads": given.threads}}})
    program = Pipeline.parse("infer-shapes,fold-constants").run(load(given.model), topology)
    feeds = sample_feeds(program, 0)
    sampling = Sampling(
        budget_s=given.budget, pause_s=given.pause_ms * 1e-3, pinned=not given.not_pinned
    )
    costs = []
    for _ in range(given.times):
        begun_s = time.perf_counter()
        backend = load_backend(given.backend)
        profile = backend.profile(program.model, feeds, RunSettings(given.threads), sampling)
        doubt = profile.conditions.doubt
        cost = summarise(profile.whole_s, settled=profile.settled, doubt=doubt)
        costs.append(cost)
        print(
            f"{duration(cost.median_s):>10} ± {duration(cost.interval_s):<9} {cost.samples:4} runs "
            f"{time.perf_counter() - begun_s:5.1f} s  {'settled' if cost.settled else 'spent  '}  "
            f"{profile.conditions.sentence()}"
        )
    pairs = list(itertools.pairwise(costs))
    inside = sum(abs(b.median_s - a.median_s) <= a.interval_s + b.interval_s for a, b in pairs)
    apart = sorted(abs(b.median_s / a.median_s - 1) for a, b in pairs)
    if pairs:
        print(f"intervals of {inside} of {len(pairs)} pairs meet; "
              f"medians differ by {100 * apart[len(apart) // 2]:.1f} %, "
              f"at most {100 * apart[-1]:.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
