"""Codecs chosen under a loss budget, on trained models: how many images keep their class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from partc.codecs import is_lossy
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.build.segment_runs import SegmentRuns
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Pipeline
from tests.support.data import cifar_images, cifar_normalised, cifar_raw, trained_model
from tests.support.narrowing import costed
from tests.support.oracle import run_whole

BATCH = 50


def split_under_budget(name: str, loss_budget: float, sample: dict[str, Any]) -> Program:
    """The first blocks stay with the image; bytes are dear, so whatever is cut is encoded."""
    topology = topology_with(loss_budget)
    program = read_model(trained_model(name).path(), sample=sample)
    program = Pipeline.parse("infer-shapes,fold-constants,group-blocks").run(program, topology)
    program = costed(program, {"camera": 0.002, "server": 0.00002}, topology)
    return Pipeline.parse("measure-codecs,partition,split,verify").run(program, topology)


def topology_with(loss_budget: float) -> Topology:
    return Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 50, "rtt_ms": 1}],
            "constraints": {"private_blocks": 3, "loss_budget": loss_budget},
        }
    )


def predictions(name: str, images: Any, count: int, loss_budget: float) -> tuple[Any, Any, Program]:
    """Classes by the whole model, and by the segments with encoded transfers."""
    program = split_under_budget(name, loss_budget, {"input": images[:8]})
    assert program.plan is not None
    whole: list[Any] = []
    encoded: list[Any] = []
    output = program.outputs[0]
    with SegmentRuns(topology_with(loss_budget)) as runs:
        for start in range(0, count, BATCH):
            feeds = {"input": images[start : start + BATCH]}
            given = runs.with_codecs(
                program.segments or (), program.plan.transfers, feeds, program.outputs
            )
            encoded += list(np.argmax(given[output], axis=-1).ravel())
            expected = run_whole(trained_model(name).path(), feeds)[output]
            whole += list(np.argmax(expected, axis=-1).ravel())
    return np.array(whole), np.array(encoded), program


@pytest.mark.parametrize(
    ("name", "prepare", "count", "least"),
    [
        ("resnet20", cifar_normalised, 200, 0.85),
        ("resnet8", cifar_raw, 200, 0.8),
        pytest.param("resnet56", cifar_normalised, 1000, 0.9, marks=pytest.mark.slow),
        pytest.param("resnet32-external", cifar_normalised, 1000, 0.9, marks=pytest.mark.slow),
        pytest.param("tinyvit", cifar_normalised, 1000, 0.3, marks=pytest.mark.slow),
    ],
)
def test_accuracy_is_kept_within_the_budget(
    name: str, prepare: Any, count: int, least: float
) -> None:
    labels = cifar_images(count)[1]
    whole, encoded, program = predictions(name, prepare(count), count, 0.03)
    assert program.plan is not None and program.verification is not None
    assert any(is_lossy(t.codec) for t in program.plan.transfers)
    assert len(program.segments or ()) > 1
    assert 0 < program.verification.loss <= 0.03
    before, after = float(np.mean(whole == labels)), float(np.mean(encoded == labels))
    assert before > least, "the model is trained, and its images are prepared as it wants them"
    assert abs(after - before) <= 0.01
    assert float(np.mean(whole == encoded)) >= 0.98


def test_a_budget_of_nothing_changes_no_answer() -> None:
    images = cifar_normalised(BATCH)
    whole, encoded, program = predictions("resnet20", images, BATCH, 0.0)
    assert program.plan is not None and program.verification is not None
    assert not any(is_lossy(t.codec) for t in program.plan.transfers)
    assert program.verification.loss == 0.0
    np.testing.assert_array_equal(whole, encoded)
