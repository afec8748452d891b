"""What becomes of rows that only some ops of a tile need: cut away, or carried along?

Runs the tiles of one of two hosts, group after group, and prints the least CPU time of each way, so
that other load on the machine does little harm:

    python -m benchmarks.tile_margins [MODEL ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import onnxruntime as ort

from examples.models import MODELS
from partc.ir.plan import Certificate, Plan
from partc.ir.program import Array, Program
from partc.ir.tiling import Margins, TileGroup, shares_to_bounds
from partc.ir.topology import Topology
from partc.passes.contract import Context
from partc.passes.ingest.read_model import read_model
from partc.passes.ingest.sample import sample_feeds
from partc.passes.lower.split import Split
from partc.passes.tiling.ranges import TileableRange, tileable_groups
from partc.passes.tiling.tile import Tile
from partc.pipeline import Pipeline

HOSTS = ("near", "far")
ROUNDS = 15
LEAST_ROWS = 14
STAGES = (1, 3, 6)


def main(names: Sequence[str]) -> None:
    """One line for each model and length of a group."""
    topology = Topology.parse(
        {
            "hosts": {name: {} for name in ("device", *HOSTS)},
            "links": [
                {"between": ["device", host], "bandwidth_mbit_s": 1000, "rtt_ms": 0.2}
                for host in HOSTS
            ],
        }
    )
    for name in names or ("resnet50", "inceptionv4", "mobilenetv2"):
        program = Pipeline.parse("infer-shapes,fold-constants,group-blocks").run(
            read_model(MODELS[name]()), topology
        )
        feeds = sample_feeds(program, 0)
        tileable = tileable_groups(program).along(2)[0]
        for stages in STAGES:
            parts = {
                way: _tiles(program, topology, _groups(tileable, stages, way), feeds)
                for way in get_args(Margins)
            }
            least = dict.fromkeys(parts, float("inf"))
            for _ in range(ROUNDS):
                for way, sessions in parts.items():
                    started = time.process_time()
                    for session, given in sessions:
                        session.run(None, given)
                    least[way] = min(least[way], time.process_time() - started)
            times = "  ".join(f"{way} {seconds * 1e3:7.2f} ms" for way, seconds in least.items())
            print(f"{name:12} {stages} stages a group  {times}")


def _groups(tileable: TileableRange, stages: int, margins: Margins) -> tuple[TileGroup, ...]:
    last = max(i for i, rows in enumerate(tileable.rows) if rows >= LEAST_ROWS)
    ends = sorted({*range(stages, last, stages), last})
    return tuple(
        replace(
            tileable.group(
                first, end, HOSTS, shares_to_bounds(tileable.rows[end], [1.0] * len(HOSTS))
            ),
            margins=margins,
        )
        for first, end in zip([0, *ends], ends, strict=False)
    )


def _tiles(
    program: Program,
    topology: Topology,
    groups: tuple[TileGroup, ...],
    feeds: Mapping[str, Array],
) -> list[tuple[ort.InferenceSession, dict[str, Array]]]:
    certificate = Certificate("latency", 0.0, 0.0, 0.0, "optimal", "by hand", 0.0)
    placement = {op.name: "device" for op in program.placed_ops}
    plan = Plan(placement, (), (), certificate, None, (), {}, tiling=groups)
    tiled = Tile().run(replace(program, plan=plan), Context(topology)).program
    segments = Split().run(tiled, Context(topology)).program.segments or ()
    held = dict(feeds)
    found: list[tuple[ort.InferenceSession, dict[str, Array]]] = []
    for segment in segments:
        assert segment.model is not None
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(
            segment.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        given = {name: held[name] for name in segment.inputs}
        names = [output.name for output in session.get_outputs()]
        held.update(zip(names, session.run(names, given), strict=True))
        if segment.host == HOSTS[0]:
            found.append((session, given))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
