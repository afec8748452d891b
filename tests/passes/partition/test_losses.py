"""What encoding costs the answer: measured right, measured when needed, held to the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from onnx import TensorProto, helper, numpy_helper

from partc.codecs import CODEC_NAMES, decode, encode, is_lossy
from partc.errors import VerificationError
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.measure.loss import output_loss
from partc.optimizer import Problem, evaluate, solve
from partc.optimizer.codec_choice import best_codecs
from partc.passes.annotate.measure_codecs import MeasureCodecs
from partc.passes.contract import Context
from partc.passes.partition.losses import LossMeter
from partc.passes.partition.partition import Partition
from partc.passes.partition.problem import placement_problem
from tests.support.narrowing import (
    OPS,
    Seconds,
    image,
    narrowing,
    narrowing_model,
    solved,
    verified,
)
from tests.support.oracle import run_whole
from tests.support.placements import TWO_HOSTS, ingested
from tests.support.random_graphs import RandomModel, onnx_models

COSTS: Seconds = {"camera": 0.001, "server": 0.00002}


def budgeted(loss: float | None, **constraints: Any) -> Topology:
    """A link on which bytes are the dear part."""
    return Topology.parse(
        {
            "hosts": {"camera": {}, "server": {}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 10, "rtt_ms": 1}],
            "constraints": {"loss_budget": loss, **constraints},
        }
    )


def with_codecs(topology: Topology) -> Program:
    return MeasureCodecs().run(narrowing(topology, COSTS), Context(topology)).program


def loss_by_hand(model: onnx.ModelProto, feeds: dict[str, Array], tensor: str, codec: str) -> float:
    """Every reader of the tensor, and whoever wants it as an output, gets the decoded values."""
    before = run_whole(model, feeds, [tensor])[tensor] if tensor not in feeds else feeds[tensor]
    data, used = encode(before, codec)
    after = decode(data, used, before.dtype.name, before.shape)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = "decoded"
    kind = helper.np_dtype_to_tensor_dtype(before.dtype)
    changed.graph.input.append(helper.make_tensor_value_info("decoded", kind, before.shape))
    expected = run_whole(model, feeds)
    actual = run_whole(changed, {**feeds, "decoded": after})
    if tensor in actual:
        actual[tensor] = after
    return output_loss(actual, expected)


@pytest.mark.parametrize("tensor", ["image", "/stem/Relu_out", "/neck/Conv_out", "classes"])
@pytest.mark.parametrize("codec", ["fp16", "int8", "int8-channel"])
def test_a_measured_loss_is_what_it_does_to_the_answer(tensor: str, codec: str) -> None:
    program = with_codecs(budgeted(0.1))
    meter = LossMeter(program, 0)
    assert meter.known(tensor, codec) is None
    meter.measure(tensor, [codec])
    expected = loss_by_hand(narrowing_model(), image(), tensor, codec)
    assert meter.known(tensor, codec) == pytest.approx(expected, rel=0.01, abs=1e-7)
    assert meter.known(tensor, f"{codec}+zstd") == meter.known(tensor, codec)
    assert expected > 0 or codec == "int8-channel"


@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(example=onnx_models())
def test_losses_in_random_models(example: RandomModel) -> None:
    """With branches, several outputs, and tensors that are read and wanted at once."""
    assume(
        not any(
            a.type == onnx.AttributeProto.GRAPH
            for n in example.model.graph.node
            for a in n.attribute
        )
    )
    assume(len({node.name for node in example.model.graph.node}) == len(example.model.graph.node))
    program = ingested(example.model, TWO_HOSTS, sample=example.feeds)
    floats = [
        name
        for block in program.blocks or ()
        for name in block.outputs
        if program.tensor(name).dtype == "float32"
    ]
    meter = LossMeter(program, 0)
    for tensor in floats[:3]:
        meter.measure(tensor, ["int8"])
        expected = loss_by_hand(example.model, example.feeds, tensor, "int8")
        assert meter.known(tensor, "int8") == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_an_op_with_several_outputs_of_which_one_is_encoded() -> None:
    """The others are wanted too, as outputs and by later ops, and keep their values."""
    halves = numpy_helper.from_array(np.array([4, 4], np.int64), "halves")
    nodes = [
        helper.make_node("Split", ["x", "halves"], ["left", "right"], name="split", axis=0),
        helper.make_node("Tanh", ["right"], ["calm"], name="tanh"),
        helper.make_node("Mul", ["calm", "left"], ["product"], name="mul"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "halves",
        [info("x", TensorProto.FLOAT, [8, 64])],
        [info(name, TensorProto.FLOAT, [4, 64]) for name in ("left", "product")],
        [halves],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    program = ingested(model, TWO_HOSTS, sample={"x": x})
    for tensor in ("left", "right", "calm", "product"):
        meter = LossMeter(program, 0)
        meter.measure(tensor, ["int8"])
        expected = loss_by_hand(model, {"x": x}, tensor, "int8")
        assert expected > 0
        assert meter.known(tensor, "int8") == pytest.approx(expected, rel=0.01)


def test_compression_loses_nothing() -> None:
    meter = LossMeter(with_codecs(budgeted(0.1)), 0)
    assert meter.known("image", "lz4") == meter.known("image", "zstd") == 0.0


@pytest.mark.parametrize("budget", [1e-5, 1e-3, 1e-2, 1.0])
def test_measuring_when_needed_finds_the_same_optimum(budget: float) -> None:
    """A solve in which every loss was known from the start."""
    topology = budgeted(budget)
    program = with_codecs(topology)
    assert program.codecs is not None
    plan = solved(program, topology).plan
    assert plan is not None

    meter = LossMeter(program, 0)
    for tensor, ratios in program.codecs.ratios.items():
        meter.measure(tensor, list(ratios))
    complete = placement_problem(program, topology, losses=meter)
    best = solve(complete).require_plan()
    assert plan.certificate.predicted_s == pytest.approx(best.objective, rel=1e-9)
    assert plan.certificate.status == "optimal"
    codecs = {
        (t.tensor, t.sender, t.receiver): t.codec for t in plan.transfers if t.codec != "none"
    }
    blocks = {block.name: plan.placement[block.ops[0]] for block in program.blocks or ()}
    again = evaluate(complete, blocks, codecs)
    assert not again.violations
    assert again.loss <= budget
    assert again.latency_s == pytest.approx(plan.certificate.predicted_s, rel=1e-9)


def test_a_larger_budget_is_never_slower_and_is_used() -> None:
    found = []
    program = with_codecs(budgeted(1.0))
    for budget in (0.0, 1e-4, 1e-2, 1.0):
        plan = solved(program, budgeted(budget)).plan
        assert plan is not None
        found.append((plan.certificate.predicted_s, {t.codec for t in plan.transfers}))
    latencies_s = [latency_s for latency_s, _ in found]
    assert latencies_s == sorted(latencies_s, reverse=True)
    assert latencies_s[-1] < latencies_s[0]
    assert not any(is_lossy(codec) for codec in found[0][1]), "nothing may be lost"
    assert any(is_lossy(codec) for codec in found[-1][1])


def test_lossless_codecs_need_no_budget() -> None:
    free = budgeted(None)
    packed = budgeted(None, codecs=["lz4", "zstd"])
    plain = solved(with_codecs(free), free).plan
    plan = solved(with_codecs(packed), packed).plan
    assert plain is not None and plan is not None
    assert {t.codec for t in plain.transfers} == {"none"}
    assert {"lz4", "zstd"} & {t.codec for t in plan.transfers}
    assert plan.certificate.predicted_s < plain.certificate.predicted_s


def test_the_true_end_loss_is_measured_and_reported() -> None:
    program = verified(budgeted(0.05), COSTS)
    assert program.plan is not None and program.verification is not None
    used = [t for t in program.plan.transfers if is_lossy(t.codec)]
    assert used
    by_hand = loss_by_hand(narrowing_model(), image(), used[0].tensor, used[0].codec)
    if len(used) == 1:
        assert program.verification.loss == pytest.approx(by_hand, rel=0.01)
    assert 0 < program.verification.loss <= 0.05


def test_a_bundle_over_its_budget_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when single losses add up to more than their sum: the optimizer believes in less."""

    def unmeasured(self: LossMeter, tensor: str, codec: str) -> float:
        return 0.0

    monkeypatch.setattr(LossMeter, "known", unmeasured)
    with pytest.raises(
        VerificationError, match=r"lose .* of the answer, more than the budget"
    ) as e:
        verified(budgeted(1e-7), COSTS)
    assert "smaller --loss-budget" in str(e.value)


def test_every_plan_of_a_portfolio_keeps_the_budget() -> None:
    """The plans of other conditions rest on losses of their own."""
    topology = Topology.parse(
        budgeted(2e-3).model_dump(mode="json")
        | {"conditions": {"bandwidth_mbit_s": [0.1, 1000], "device_slowdown": [1, 5]}}
    )
    program = verified(topology, COSTS)
    assert program.portfolio is not None and program.verification is not None
    assert program.verification.loss <= 2e-3
    meter = LossMeter(program, 0)
    for plan in program.portfolio.plans:
        total = 0.0
        for transfer in plan.transfers:
            if is_lossy(transfer.codec):
                meter.measure(transfer.tensor, [transfer.codec])
                total += meter.known(transfer.tensor, transfer.codec) or 0.0
        assert total <= 2e-3 * (1 + 1e-6)


def test_a_tensor_with_nan_travels_as_it_is() -> None:
    nodes = [
        helper.make_node("Log", ["x"], ["bad"], name="log"),
        helper.make_node("Relu", ["bad"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "nan",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 512])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = np.linspace(-1, 1, 512, dtype=np.float32)[None]
    topology = budgeted(0.1, codecs=["int8", "fp16"])
    text = "infer-shapes,fold-constants,group-blocks{fused=false}"
    program = ingested(model, topology, sample={"x": x}, pipeline=text)
    measured = MeasureCodecs().run(program, Context(topology)).program
    assert measured.codecs is not None
    assert measured.codecs.ratios["bad"] == {"int8": 1.0, "fp16": 1.0}
    assert measured.codecs.ratios["x"]["int8"] < 0.3
    meter = LossMeter(measured, 0)
    meter.measure("bad", ["int8"])
    assert meter.known("bad", "int8") == 0.0


def test_only_what_a_plan_asks_for_is_measured() -> None:
    topology = budgeted(0.01)
    program = with_codecs(topology)
    assert program.codecs is not None
    meter = LossMeter(program, 0)
    assert meter.learn([("image", "none"), ("image", "lz4")]) is False
    assert meter.count == 0
    assert meter.learn([("image", "int8+lz4")]) is True
    assert 0 < meter.count <= 3
    assert meter.learn([("image", "int8")]) is False
    assert set(OPS) and set(program.codecs.costs) == set(CODEC_NAMES)


def test_simple_strategies_have_codecs_whose_losses_were_measured() -> None:
    plain, coded = (
        Partition().run(with_codecs(topology), Context(topology)).program.plan
        for topology in (budgeted(0.05, codecs=[]), budgeted(0.05))
    )
    assert plain is not None and coded is not None
    before = {strategy.name: strategy for strategy in plain.strategies}
    smaller = 0
    for strategy in coded.strategies:
        if strategy.name in before and strategy.name != "optimal":
            assert strategy.predicted_s <= before[strategy.name].predicted_s * (1 + 1e-9)
            smaller += strategy.bytes_sent < before[strategy.name].bytes_sent
    assert smaller >= 2
    edge = next(s for s in coded.strategies if s.name == "edge-only")
    problem = Problem.from_dict(coded.problem)
    used = best_codecs(problem, edge.placement)
    assert used
    assert evaluate(problem, edge.placement, used).loss <= 0.05
    for (tensor, _, _), codec in used.items():
        if is_lossy(codec):
            known = problem.tensor_by_name[tensor].codecs[codec]
            assert known is not None and known.loss is not None and known.loss > 0
    declared = next(point for point in coded.sweep if point.bandwidth_mbit_s == 10)
    assert declared.predicted_s["edge-only"] == pytest.approx(edge.predicted_s)
