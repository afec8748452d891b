"""Tiling a program by hand and comparing it with the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort

from partc.ir.program import Program
from partc.ir.tiling import TileGroup, shares_to_bounds
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.invariants import INVARIANTS
from partc.passes.tiling.ranges import TileableRange
from partc.passes.tiling.tile import Tile
from tests.support.oracle import Array, run_whole
from tests.support.placements import ingested, placed, topology_of

SERVERS = ("s0", "s1", "s2", "s3")
STAR = topology_of(*(("hub", server) for server in SERVERS))
TOLERANCE = 1e-5


def planned(
    program: Program, groups: Sequence[TileGroup], placement: Mapping[str, str] | None = None
) -> Program:
    """The program with a plan that has these tiles; all else is on the hub."""
    if placement is None:
        placement = {op.name: "hub" for op in program.placed_ops}
    program = placed(program, placement)
    assert program.plan is not None
    return replace(program, plan=replace(program.plan, tiling=tuple(groups)))


def tiled(program: Program, groups: Sequence[TileGroup], topology: Topology = STAR) -> Program:
    """The program rewritten, and checked as the pass manager would and by the ONNX checker."""
    given = planned(program, groups)
    before = given.model.SerializeToString(deterministic=True)
    result = Tile().run(given, Context(topology))
    assert given.model.SerializeToString(deterministic=True) == before
    assert result.modified
    for name in (*Tile.ensures, "folded"):
        broken = INVARIANTS[name](result.program, topology)
        assert broken is None, f"{name}: {broken}"
    onnx.checker.check_model(result.program.model, full_check=True)
    return result.program


def feeds_of(program: Program, seed: int = 0) -> dict[str, Array]:
    """Random values for every input."""
    draw = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for name in program.inputs:
        info = program.tensor(name)
        assert info.planned_shape is not None
        if np.dtype(info.dtype).kind in "iu":
            feeds[name] = draw.integers(0, 2, info.planned_shape).astype(info.dtype)
        else:
            feeds[name] = draw.standard_normal(info.planned_shape).astype(info.dtype)
    return feeds


def assert_close(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Within 1e-5 of the largest magnitude, in float32."""
    assert set(actual) == set(expected)
    for name, wanted in expected.items():
        assert actual[name].shape == wanted.shape
        assert actual[name].dtype == wanted.dtype
        if wanted.dtype.kind in "biu":
            np.testing.assert_array_equal(actual[name], wanted)
            continue
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-6)
        error = float(np.abs(actual[name].astype(np.float64) - wanted).max(initial=0))
        assert error <= TOLERANCE * scale, f"{name}: {error / scale:.3g} of its magnitude"


def assert_equal_to_whole(
    model: onnx.ModelProto, rewritten: Program, feeds: Mapping[str, Array]
) -> None:
    """The rewritten program gives the answers of the model as it was."""
    assert_close(run_whole(rewritten.model, feeds), run_whole(model, feeds))


def run_unoptimised(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every op by its own plain kernel."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def even_groups(
    tileable: TileableRange, shares: Sequence[float], ends: Sequence[int] | None = None
) -> list[TileGroup]:
    """Groups one after the other over the same hosts, ending at the cuts of ``ends``."""
    hosts = SERVERS[: len(shares)]
    ends = [len(tileable.cuts) - 1] if ends is None else list(ends)
    groups: list[TileGroup] = []
    first = 0
    for last in ends:
        rows = tileable.rows[last]
        count = min(len(shares), rows)
        bounds = shares_to_bounds(rows, shares[:count])
        groups.append(tileable.group(first, last, hosts[:count], bounds))
        first = last
    return groups


def ingest(model: onnx.ModelProto) -> Program:
    """The program with blocks, on the star."""
    return ingested(model, STAR)
