"""From the measurement of a whole model to what each of its blocks costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from partc.ir.cost import Cost
from partc.ir.program import Program
from partc.measure.statistics import summarise
from partc.passes.build.rewriting import rewritten
from partc.targets.meter import Meter
from partc.targets.protocol import Profile, RunSettings, Sampling

WHOLE, SEGMENT = "whole", "segment-fixed"
"""Names, in a table of costs, of the whole model and of what one more segment costs."""

_FIXED_RUNS = 15
_SAME = 1e-6
_LEAST_OWN_SHARE = 0.05  # of a tiny model's time that its blocks keep


def block_costs(program: Program, profile: Profile, fixed_s: float) -> dict[str, Cost]:
    """Block -> cost, and `WHOLE`.

    Blocks together take as long as the whole model, less what any segment takes to begin.

    Args:
        fixed_s: what a segment costs before it computes anything.
    """
    runs = len(profile.whole_s)
    samples: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {
        block.name: np.zeros(runs) for block in program.blocks or ()
    }
    for op, samples_s in profile.op_s.items():
        if op in program.block_of:  # constant ops have kernels, but no host and no block
            samples[program.block_of[op].name] += np.asarray(samples_s)[:runs]
    medians = sum(float(np.median(row)) for row in samples.values())
    doubt = profile.conditions.doubt
    whole = summarise(profile.whole_s, settled=profile.settled, doubt=doubt)
    scale = own_share(whole.median_s, fixed_s) * whole.median_s / medians if medians > 0 else 1.0
    costs = {
        name: summarise(row.tolist(), scale, settled=whole.settled, doubt=doubt)
        for name, row in samples.items()
    }
    return {**costs, WHOLE: whole}


def whole_of_parts(parts: Mapping[str, Cost]) -> Cost:
    """The whole model's cost where only its blocks' and `SEGMENT`'s are known: their sum."""
    costs = list(parts.values())
    return Cost(
        median_s=sum(cost.median_s for cost in costs),
        spread_s=sum(cost.spread_s for cost in costs),
        samples=min(cost.samples for cost in costs),
        provenance=costs[0].provenance,
        measured_at=max(cost.measured_at for cost in costs),
        interval_s=sum(cost.interval_s for cost in costs),
        settled=all(cost.settled for cost in costs),
        fingerprint=costs[0].fingerprint,
    )


def fitted_to_whole(table: Mapping[str, Cost]) -> dict[str, Cost]:
    """Blocks that together take as long as the whole model, less `SEGMENT`.

    In a store they may be of several runs, or one block's cost may stand for all that are like it.

    Args:
        table: name -> cost, with `WHOLE` and `SEGMENT`.
    """
    whole_s, fixed_s = table[WHOLE].median_s, table[SEGMENT].median_s
    blocks = {name: cost for name, cost in table.items() if name not in (WHOLE, SEGMENT)}
    sum_s = sum(cost.median_s for cost in blocks.values())
    factor = own_share(whole_s, fixed_s) * whole_s / sum_s if sum_s > 0 else 1.0
    if math.isclose(factor, 1.0, rel_tol=_SAME):
        return dict(table)
    fitted = {
        name: replace(
            cost,
            median_s=cost.median_s * factor,
            spread_s=cost.spread_s * factor,
            interval_s=cost.interval_s * factor,
        )
        for name, cost in blocks.items()
    }
    return {**table, **fitted}


def own_share(whole_s: float, fixed_s: float) -> float:
    """The part of a model's time that is its blocks'."""
    return max(1.0 - fixed_s / whole_s, _LEAST_OWN_SHARE) if whole_s > 0 else 1.0


def segment_fixed_cost(meter: Meter, settings: RunSettings, sampling: Sampling) -> Cost:
    """What a segment costs before it computes anything: one op on one number, in the precision
    of the settings."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "fixed",
        [info("x", onnx.TensorProto.FLOAT, [1])],
        [info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    model = rewritten(model, settings.precision, ())
    feeds = {"x": np.zeros(1, np.float32)}
    few = replace(sampling, repeats=_FIXED_RUNS)
    return summarise(meter.run_times(model, feeds, settings, few))
