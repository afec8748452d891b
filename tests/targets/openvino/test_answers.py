"""OpenVINO gives ONNX Runtime's answers, on known models and on random ones."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, event, given, settings

from partc.api import load
from partc.errors import TargetError
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.passes.build.compare import compare
from partc.passes.ingest.sample import sample_feeds
from partc.pipeline import Pipeline
from partc.targets.loading import open_model
from partc.targets.protocol import RunSettings, Sampling
from partc.targets.reference import open_reference
from partc.targets.registry import load_backend
from tests.support.known_models import KNOWN, QUICK_ONES
from tests.support.oracle import assert_same
from tests.support.random_graphs import RandomModel, onnx_models

BACKEND = load_backend("openvino")
HERE = Topology.parse({"hosts": {"here": {}}})
ONE = RunSettings()
# With random weights an error of 1e-7 in the input grows to 2.3e-4; ONNX Runtime's own levels are
# 1.6e-4 apart.
AMPLIFYING = {"inceptionv4": 1e-3}


def read(program: Program) -> Program:
    return Pipeline.parse("infer-shapes,fold-constants").run(program, HERE)


def check_answers(model: onnx.ModelProto, program: Program) -> None:
    feeds = sample_feeds(program, 0)
    with open_reference(model) as reference, open_model(model, BACKEND, ONE) as runner:
        assert runner.input_names == reference.input_names
        assert runner.output_names == reference.output_names
        actual, expected = runner.run(feeds), reference.run(feeds)
    if program.name in AMPLIFYING:
        for name, array in expected.items():
            assert not compare(name, actual[name], array, AMPLIFYING[program.name]).complaint
    else:
        assert_same(actual, expected)


def check_groups_and_profile(program: Program) -> None:
    placed = {op.name for op in program.placed_ops}
    for group in BACKEND.fused_groups(program.model, ONE):
        assert len(group) > 1
        assert placed.issuperset(group)
    sampling = Sampling(repeats=3, budget_s=1.0, pause_s=0.0)
    profile = BACKEND.profile(program.model, sample_feeds(program, 0), ONE, sampling)
    assert len(profile.whole_s) >= 3
    assert placed.issuperset(profile.op_s)
    assert profile.op_s
    assert all(len(samples) == len(profile.whole_s) for samples in profile.op_s.values())
    assert all(second >= 0 for samples in profile.op_s.values() for second in samples)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK_ONES else pytest.param(name, marks=pytest.mark.slow) for name in KNOWN],
)
def test_known_models(name: str) -> None:
    program = read(KNOWN[name].program())
    refused = BACKEND.unsupported(program.model)
    assert set(refused) <= {op.name for op in program.ops}
    if refused:
        pytest.skip(f"OpenVINO cannot run it whole: {next(iter(refused.values()))}")
    if not name.startswith("light"):  # all their weights are alike: softmax of rounding errors
        check_answers(program.model, program)
    check_groups_and_profile(program)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=onnx_models())
def test_random_models(model: RandomModel) -> None:
    program = read(load(model.model, sample=model.feeds))
    refused = BACKEND.unsupported(program.model)
    event("refused" if refused else "taken")
    if refused:
        return
    try:
        with open_model(program.model, BACKEND, ONE) as runner:
            actual = runner.run(model.feeds)
    except TargetError as error:
        event(f"fails: {str(error)[:60]}")
        return
    with open_reference(program.model) as reference:
        assert_same(actual, reference.run(model.feeds))
    check_groups_and_profile(program)
