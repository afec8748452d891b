"""Bundles of plans that nobody solved for, so that any placement can be measured end to end."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from partc.ir.plan import Certificate, Plan
from partc.ir.program import Program
from partc.ir.topology import Topology
from partc.optimizer import Solution
from partc.optimizer.solution import solution_of
from partc.passes.contract import Context
from partc.passes.emit.emit_bundle import emit_bundle
from partc.passes.lower.schedule import make_calls, make_segments
from partc.passes.partition.portfolio import op_placement
from partc.passes.partition.problem import placement_problem
from partc.passes.partition.transfers import transfers_of
from partc.passes.refine.corrections import blocks_s
from partc.passes.refine.forecast import forecast
from partc.pipeline import Pipeline
from partc.runtime.local import LocalDeployment
from partc.targets.protocol import Array

Placement = Mapping[str, str]
"""Block -> host."""

_LONG_S = 600.0


def random_cut(program: Program, generator: random.Random) -> dict[str, str]:
    """A legal cut: a random block with all that it depends on stays on the camera."""
    blocks = program.blocks or ()
    writer = {tensor: block for block in blocks for tensor in block.outputs}
    stack = [blocks[generator.randrange(len(blocks))]]
    kept = {stack[0].name}
    while stack:
        for tensor in stack.pop().inputs:
            block = writer.get(tensor)
            if block is not None and block.name not in kept:
                kept.add(block.name)
                stack.append(block)
    return {block.name: "camera" if block.name in kept else "server" for block in blocks}


def predicted_s(program: Program, topology: Topology, placement: Placement) -> float:
    """Latency by the costs of blocks and the messages that the plan sends; nothing of the plan
    itself was measured."""
    problem = placement_problem(program, topology)
    segments = make_segments(program, op_placement(program, dict(placement)))
    calls = make_calls(program, segments, topology)
    assert program.costs is not None
    fixed_s = program.costs.segment_fixed_s
    seconds = {s.id: blocks_s(program, s) + fixed_s[s.host] for s in segments}
    return forecast(problem, program, topology, segments, calls, seconds, {}).simulated_s


@contextmanager
def deployed(
    program: Program, topology: Topology, placement: Placement
) -> Iterator[tuple[LocalDeployment, Mapping[str, Array]]]:
    """The plan's hosts as processes joined by an emulated link, and the sample input."""
    solution: Solution = solution_of(
        placement_problem(program, topology), dict(placement), solver="given"
    )
    plan = Plan(
        placement=op_placement(program, solution.placement),
        transfers=transfers_of(solution.transfers, topology, "camera"),
        strategies=(),
        certificate=Certificate("latency", 0.0, 0.0, 0.0, "feasible", "given", 0.0),
        verdict=None,
        sweep=(),
        problem={},
    )
    made = Pipeline.parse("split,verify").run(
        replace(program, plan=plan), topology, context=Context(topology)
    )
    assert made.verification is not None
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        emit_bundle(made, topology, "given", bundle)
        with LocalDeployment(bundle, deadline_s=_LONG_S, fallback="lazy") as local:
            yield local, made.verification.feeds
