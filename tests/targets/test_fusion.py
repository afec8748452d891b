"""Which ops run as one kernel, and where every kernel's time goes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from partc.ir.program import Program
from partc.passes.annotate.annotate_costs import AnnotateCosts
from partc.passes.annotate.block_costs import own_share
from partc.passes.contract import Context
from partc.passes.ingest.sample import sample_feeds
from partc.pipeline import Pipeline
from partc.targets.onnxruntime import profiler
from partc.targets.onnxruntime.fusion import OptimisedModel, optimise
from partc.targets.onnxruntime.profiler import kernels_of_runs, op_samples
from partc.targets.protocol import RunSettings, Sampling
from tests.support.known_models import KNOWN
from tests.support.nasty_models import NASTY, parsed
from tests.support.placements import INGEST, TWO_HOSTS, ingested

SHORT = AnnotateCosts(repeats=5, pause_ms=0.0)
WITH_BODIES = ("branching", "looping", "scanning", "trained silero-vad")


def blocked(name: str) -> Program:
    return Pipeline.parse(INGEST).run(KNOWN[name].program(), TWO_HOSTS)


def kinds(program: Program) -> Counter[str]:
    return Counter(
        " ".join(program.op_by_name[op].op_type for op in block.ops)
        for block in program.blocks or ()
    )


def test_activations_and_residuals_are_in_the_block_of_their_convolution() -> None:
    assert kinds(blocked("mobilenetv2")) == {
        "Conv Clip": 35,
        "Conv Add": 10,
        "Conv": 7,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "largest_share"),
    [
        ("resnet50", {"Conv Relu": 33, "Conv Add Relu": 16, "Conv": 4}),
        ("inceptionv4", {"Conv BatchNormalization Relu": 149, "Concat": 25, "AveragePool": 14}),
    ],
)
def test_large_networks_have_one_block_a_kernel(name: str, largest_share: dict[str, int]) -> None:
    found = kinds(blocked(name))
    assert dict(found.most_common(3)) == largest_share
    assert sum(found.values()) < sum(largest_share.values()) + 10


def test_what_a_transformer_fuses() -> None:
    found = kinds(blocked("transformer"))
    assert found["Add Add LayerNormalization"] == 24
    assert found["Add Div Erf Add Mul Mul"] == 12, "a whole Gelu with its bias"
    assert found["MatMul Div"] == 12


@pytest.mark.parametrize("name", ["detector", "trained tinyvit", "trained ultraface", *WITH_BODIES])
def test_no_block_is_absurdly_large(name: str) -> None:
    program = blocked(name)
    largest = max(len(block.ops) for block in program.blocks or ())
    assert largest <= 6


def test_ops_that_compute_shapes_stay_out_of_the_kernel_that_swallows_them() -> None:
    example = NASTY["shape computed from the batch"]()
    program = ingested(example.model, sample=example.feeds)
    assert set(kinds(program)) >= {"Shape", "Gather", "Unsqueeze", "Concat"}


@pytest.mark.parametrize("name", ["mobilenetv2", "transformer", "trained ultraface", *WITH_BODIES])
def test_every_kernel_belongs_to_an_op(name: str) -> None:
    program = blocked(name)
    optimised = optimise(program.model, RunSettings())
    assert optimised.kernels
    owners = [optimised.op_of(index) for index in range(len(optimised.kernels))]
    assert set(owners) <= {op.name for op in program.placed_ops}
    without_anchor = [
        kernel.op_type
        for kernel, anchor in zip(optimised.kernels, optimised.anchors, strict=True)
        if anchor is None
    ]
    assert set(without_anchor) <= {
        "ReorderInput",
        "ReorderOutput",
        "Transpose",
        "Cast",
        "Unsqueeze",
    }


@pytest.mark.parametrize("name", ["mobilenetv2", "trained ultraface", *WITH_BODIES])
def test_all_time_lands_in_a_block_and_none_twice(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = blocked(name)
    seen: list[list[list[tuple[str, float]]]] = []
    events: list[list[dict[str, Any]]] = []

    def watched(read: list[dict[str, Any]], bodied: Any) -> Any:
        events.append(read)
        runs = list(kernels_of_runs(read, bodied))
        seen.append(runs)
        return iter(runs)

    monkeypatch.setattr(profiler, "kernels_of_runs", watched)
    feeds = sample_feeds(program, 0)
    sampling = Sampling(repeats=5, pause_s=0.0)
    backend_profile = profiler.profile(program.model, feeds, RunSettings(), sampling)
    (runs,), (read,) = seen, events
    per_run = [sum(seconds for _, seconds in run) for run in runs]
    attributed = np.sum(list(backend_profile.op_s.values()), axis=0)
    count = len(backend_profile.whole_s)
    # Which runs count is the stopping rule's affair: those after the warm-up, while it was quiet.
    assert any(
        np.allclose(attributed, per_run[first : first + count], rtol=1e-9, atol=0)
        for first in range(len(per_run) - count + 1)
    )
    model_runs = [float(e["dur"]) * 1e-6 for e in read if e["name"] == "model_run"]
    for kernels_s, run_s in zip(per_run, model_runs, strict=True):
        assert kernels_s <= run_s * 1.001, "kernels of bodies were counted beside their parents"


def test_blocks_together_cost_what_the_whole_does_once_it_has_begun() -> None:
    program = SHORT.run(blocked("trained resnet8-loop"), Context(TWO_HOSTS)).program
    costs = program.costs
    assert costs is not None
    for host in ("camera", "server"):
        together = sum(costs.of(block.name, host).median_s for block in program.blocks or ())
        whole_s, fixed_s = costs.whole_s[host], costs.segment_fixed_s[host]
        assert together == pytest.approx(own_share(whole_s, fixed_s) * whole_s, rel=1e-6)
    assert costs.provenances() == {"measured"}


def event(name: str, started: float, duration: float, category: str = "Node") -> dict[str, Any]:
    shown = name if category == "Session" else f"{name}_kernel_time"
    return {"cat": category, "name": shown, "ts": started, "dur": duration}


def test_kernels_of_bodies_count_within_their_parent_even_if_names_repeat() -> None:
    events = [
        event("a", 10, 5),
        event("Mul", 21, 3),
        event("Add", 25, 4),
        event("loop", 20, 10),
        event("Mul", 31, 2),
        event("model_run", 9, 30, "Session"),
        event("a", 50, 6),
        event("Mul", 57, 0),
        event("model_run", 49, 12, "Session"),
    ]
    runs = list(kernels_of_runs(events, {"loop"}))
    assert [[(name, round(seconds * 1e6)) for name, seconds in run] for run in runs] == [
        [("a", 5), ("loop", 10), ("Mul", 2)],
        [("a", 6), ("Mul", 0)],
    ]


def test_a_kernel_that_nobody_knows_counts_for_the_one_before_it() -> None:
    program = ingested(parsed("g (float[2] x) => (float[2] y) {a = Exp(x) y = Neg(a)}", {}).model)
    optimised: OptimisedModel = optimise(program.model, RunSettings())
    exp, neg = (kernel.name for kernel in optimised.kernels)
    samples = op_samples([[("odd", 1.0), (exp, 2.0), ("odd", 4.0), (neg, 8.0)]], optimised)
    assert samples == {exp: (7.0,), neg: (8.0,)}
