"""A small image model that grows narrower, with costs given instead of measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from partc.bundle.reader import Bundle
from partc.ir.cost import Cost, CostTable, MessageCost
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.emit.emit_bundle import emit_bundle
from partc.passes.partition.partition import Partition
from partc.pipeline import Pipeline
from partc.report import render_report
from tests.support.placements import TWO_HOSTS, ingested

LAYERS = ("/stem/Conv", "/stem/Relu", "/body[0]/Conv", "/body[0]/Relu", "/neck/Conv")
OPS = (*LAYERS, "/neck/Relu", "/head/Pool", "/head/Flatten", "/head/Gemm", "/head/Softmax")
ONE_BLOCK_AN_OP = "infer-shapes,fold-constants,group-blocks{fused=false}"
Seconds = Mapping[str, float | Mapping[str, float]]
"""Host -> seconds of each block, or block -> seconds (others cannot run there)."""

NO_MESSAGE_COST = MessageCost(0.0, 0.0, "estimated")


def narrowing_model(batch: int | str = 1) -> onnx.ModelProto:
    """``image`` [1, 3, 32, 32] to ``classes`` [1, 10], one op after the other: see `OPS`.

    Bytes between the ops: 12288, 32768 (twice), 16384 (twice), 4096 (twice), 64 (twice), 40.
    """
    draw = np.random.default_rng(7)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        values = draw.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(op_type: str, name: str, *inputs: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op_type, inputs, [_made(name)], name=name, **attributes))

    source, channels = "image", 3
    for scope, width, stride in (("stem", 8, 1), ("body[0]", 16, 2), ("neck", 16, 2)):
        kernel = weight(f"{scope}.weight", width, channels, 3, 3)
        conv, relu = f"/{scope}/Conv", f"/{scope}/Relu"
        add("Conv", conv, source, kernel, strides=[stride] * 2, pads=[1, 1, 1, 1])
        add("Relu", relu, _made(conv))
        source, channels = _made(relu), width
    add("GlobalAveragePool", "/head/Pool", source)
    add("Flatten", "/head/Flatten", _made("/head/Pool"))
    add("Gemm", "/head/Gemm", _made("/head/Flatten"), weight("head.weight", 10, 16), transB=1)
    nodes.append(helper.make_node("Softmax", [_made("/head/Gemm")], ["classes"], "/head/Softmax"))
    graph = helper.make_graph(
        nodes,
        "narrowing",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _made(op: str) -> str:
    """The tensor that an op makes."""
    return f"{op}_out"


def image(seed: int = 0, batch: int = 1) -> dict[str, Array]:
    """A smooth random picture."""
    draw = np.random.default_rng(seed)
    coarse = draw.standard_normal((batch, 3, 8, 8))
    return {"image": coarse.repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)}


def costed(program: Program, seconds: Seconds, topology: Topology) -> Program:
    """The program with costs that nobody measured."""

    def on(host: str, block: str) -> float | None:
        price = seconds[host]
        return price.get(block) if isinstance(price, Mapping) else price

    rows: dict[str, dict[str, Cost]] = {}
    for block in program.blocks or ():
        prices = {host: on(host, block.name) for host in topology.hosts}
        rows[block.name] = {
            host: Cost(price, 0.0, 1, "measured")
            for host, price in prices.items()
            if price is not None
        }
    free = dict.fromkeys(topology.hosts, 0.0)
    return replace(program, costs=CostTable(rows, free, free, NO_MESSAGE_COST))


def solved(program: Program, topology: Topology, **options: Any) -> Program:
    """The program after `partition` with the given options."""
    return Partition(**options).run(program, Context(topology)).program


def verified(
    topology: Topology, seconds: Seconds, *, objective: str = "latency", pareto: str = ""
) -> Program:
    """The model, costed, after everything that follows the costs."""
    passes = _after_costs(objective, pareto)
    return passes.run(narrowing(topology, seconds), topology)


def bundled(
    topology: Topology,
    seconds: Seconds,
    output: Path,
    *,
    objective: str = "latency",
    pareto: str = "",
) -> Bundle:
    """A bundle of the model with these costs."""
    program = verified(topology, seconds, objective=objective, pareto=pareto)
    text = str(_after_costs(objective, pareto))
    return Bundle(output, emit_bundle(program, topology, text, output, render_report=render_report))


def _after_costs(objective: str, pareto: str) -> Pipeline:
    passes = Pipeline.parse("measure-codecs,partition,split,verify")
    return passes.with_option("partition", objective=objective, pareto=pareto)


def narrowing(
    topology: Topology,
    seconds: Seconds,
    pipeline: str = ONE_BLOCK_AN_OP,
) -> Program:
    """The model, costed; with one block for each op."""
    return costed(_ingested(pipeline), seconds, topology)


@cache
def _ingested(pipeline: str) -> Program:
    return ingested(narrowing_model(), TWO_HOSTS, sample=image(), pipeline=pipeline)
