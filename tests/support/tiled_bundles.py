"""Bundles with tiles that nobody had to solve for: convolutions, and groups given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from partc.bundle.manifest import Manifest
from partc.ir.cost import Cost, CostTable, MessageCost
from partc.ir.plan import Verdict
from partc.ir.program import Program
from partc.ir.tiling import TileGroup
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.emit.emit_bundle import emit_bundle
from partc.pipeline import Pipeline
from tests.support.placements import ingested

SIDE, CHANNELS = 24, 4
FREE = MessageCost(1e-5, 0.0, "estimated")
SENTENCE = "Tiling over 2 hosts pays: 40.2 ms, against 80.2 ms without."


def convolutions(count: int, prefix: str = "conv", side: int = SIDE) -> onnx.ModelProto:
    """3 x 3 convolutions one after the other: ``image``, ``t0``, ``t1`` and so on."""
    draw = np.random.default_rng(3)
    nodes, weights, source, channels = [], [], "image", 3
    for number in range(count):
        values = draw.standard_normal((CHANNELS, channels, 3, 3)).astype(np.float32) * 0.1
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        names = [source, f"w{number}"], [f"t{number}"], f"{prefix}{number}"
        nodes.append(helper.make_node("Conv", *names, pads=[1, 1, 1, 1]))
        source, channels = f"t{number}", CHANNELS
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [value("image", TensorProto.FLOAT, [1, 3, side, side])],
        [value(source, TensorProto.FLOAT, [1, CHANNELS, side, side])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def servers(*names: str) -> Topology:
    """A camera and servers, every two of them joined."""
    hosts = ["camera", *names]
    pairs = [(a, b) for index, a in enumerate(hosts) for b in hosts[index + 1 :]]
    return Topology.parse(
        {
            "hosts": {name: {} for name in hosts},
            "links": [{"between": list(pair), "bandwidth_mbit_s": 1000} for pair in pairs],
            "tiles": {"use": "never"},
        }
    )


def group(
    first: int, last: int, hosts: Sequence[str], bounds: Sequence[int], prefix: str = "conv"
) -> TileGroup:
    """Convolutions ``first`` to ``last``, both of them in the group."""
    blocks = tuple(f"{prefix}{number}" for number in range(first, last + 1))
    entry = f"t{first - 1}" if first else "image"
    return TileGroup(blocks, entry, f"t{last}", tuple(hosts), tuple(bounds))


def tiled_program(
    model: onnx.ModelProto, topology: Topology, groups: Sequence[TileGroup]
) -> Program:
    """The program after ``verify``; what is in no group runs at the camera."""
    program = ingested(model, topology)
    cost = Cost(0.02, 0.001, 10, "measured")
    rows = {block.name: dict.fromkeys(topology.hosts, cost) for block in program.blocks or ()}
    fixed = dict.fromkeys(topology.hosts, 1e-5)
    whole = dict.fromkeys(topology.hosts, 0.02 * len(rows))
    program = replace(program, costs=CostTable(rows, fixed, whole, FREE))
    context = Context(topology, message_cost=FREE)
    program = Pipeline.parse("partition").run(program, topology, context=context)
    assert program.plan is not None
    plan = replace(
        program.plan,
        placement={op.name: "camera" for op in program.placed_ops},
        transfers=(),
        tiling=tuple(groups),
        verdict=Verdict(True, "tiles", None, None, SENTENCE),
        sweep=(),
    )
    program = replace(program, plan=plan)
    return Pipeline.parse("tile,split,verify").run(program, topology, context=context)


def tiled_manifest(
    folder: Path, model: onnx.ModelProto, topology: Topology, groups: Sequence[TileGroup]
) -> Manifest:
    """What the bundle that is written to ``folder`` says."""
    program = tiled_program(model, topology, groups)
    return emit_bundle(program, topology, "by hand", folder, force=True)


@cache
def two_groups() -> Manifest:
    """Three convolutions fused, then halos of uneven tiles, then a last one."""
    import tempfile

    pair = ("left", "right")
    groups = [group(0, 2, pair, (0, 12, SIDE)), group(3, 3, pair, (0, 15, SIDE))]
    with tempfile.TemporaryDirectory() as folder:
        return tiled_manifest(Path(folder) / "b", convolutions(4), servers(*pair), groups)
