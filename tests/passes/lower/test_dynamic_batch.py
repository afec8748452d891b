"""Segments compiled for one batch size answer any other that the whole model answers."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.support.oracle import Array, assert_same, run_whole
from tests.support.placements import CHAIN, ingested, random_placement, run_in_order, split
from tests.support.random_graphs import RandomModel, onnx_models


def with_batch(example: RandomModel, batch: int) -> dict[str, Array] | None:
    """Inputs with another batch, or None where no input's batch is open."""
    feeds = dict(example.feeds)
    changed = False
    for value in example.model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in feeds and dims and dims[0].dim_param:
            repeats = [feeds[value.name][:1]] * batch
            feeds[value.name] = np.concatenate(repeats)
            changed = True
    return feeds if changed else None


@settings(
    max_examples=250,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(example=onnx_models(max_ops=12), seed=st.integers(0, 2**16))
def test_random_models_answer_another_batch(example: RandomModel, seed: int) -> None:
    feeds = with_batch(example, 3)
    assume(feeds is not None)
    assert feeds is not None
    try:
        whole = run_whole(example.model, feeds)
    except Exception:  # the model itself is bound to its batch, by a Reshape or a Loop
        assume(False)
    program = ingested(example.model, CHAIN, sample=example.feeds)
    cut = split(program, CHAIN, random_placement(program, CHAIN, seed))
    held = run_in_order(cut.segments or (), feeds)
    assert_same({name: held[name] for name in whole}, whole)
