"""Builds parts of a segment that could not be built, to find out which ops are to blame."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from partc.bundle.writer import BundleWriter
from partc.errors import UnbuildableError
from partc.ir.engine import engine_key, source_digest
from partc.ir.program import Program
from partc.ir.segment import Segment
from partc.ir.topology import Host
from partc.passes.build.precision import SetPrecision
from partc.passes.contract import Context
from partc.passes.emit.culprits import Culprit, Unit, culprits
from partc.passes.emit.engines import UnbuildableSegmentError, engine_recipe
from partc.passes.emit.workshop import Workshop
from partc.passes.lower.schedule import make_segments
from partc.passes.lower.segment_models import SegmentMaker
from partc.targets.engines import EngineSource

_REST = "the-rest"  # no host of a topology: names there are plain


def blamed_ops(
    program: Program, context: Context, workshop: Workshop, error: UnbuildableSegmentError
) -> list[Culprit]:
    """Ops of the segment that its builder refuses.

    Raises:
        TargetError: a trial ended for a reason that is not the segment's.
    """
    units = _units(program, error.segment.ops)
    trials = _Trials(program, context, workshop, error)
    return culprits(units, error.reason, trials.why)


def _units(program: Program, ops: Sequence[str]) -> list[Unit]:
    """The ops by what is placed together, in the order in which they run."""
    units: dict[str, list[str]] = {}
    for op in ops:
        block = program.block_of.get(op)
        units.setdefault(block.name if block is not None else f"op {op}", []).append(op)
    return [tuple(unit) for unit in units.values()]


class _Trials:
    """Builds some ops of a program as its host would, and keeps nothing."""

    def __init__(
        self, program: Program, context: Context, workshop: Workshop, error: UnbuildableSegmentError
    ) -> None:
        self._host = error.segment.host
        self._gpu = error.gpu
        self._workshop = workshop
        # Nobody knows what a part costs that no plan has, nor needs to.
        self._program = replace(program, portfolio=None, costs=None)
        self._maker = SegmentMaker(self._program)
        hosts = {**context.topology.hosts, _REST: Host()}
        topology = context.topology.model_copy(update={"hosts": hosts})
        self._context = replace(context, topology=topology)
        self._options = hosts[self._host].engine
        self._number = 0

    def why(self, ops: Sequence[str]) -> str:
        """Why ``ops`` cannot be built by themselves; empty if they can, or nobody can tell."""
        self._number += 1
        self._context.progress(
            f"looking for the op that host {self._host!r} cannot build, trial {self._number}", None
        )
        placement = dict.fromkeys((op.name for op in self._program.placed_ops), _REST)
        placement.update(dict.fromkeys(ops, self._host))
        parts = make_segments(self._program, placement)
        between = {name for part in parts for name in (*part.inputs, *part.outputs)}
        if not all(self._program.tensor(name).can_cross for name in between):
            return ""
        cut = replace(self._program, segments=self._maker.segments(placement))
        written = SetPrecision().run(cut, self._context).program
        for segment in written.segments or ():
            if segment.host == self._host:
                try:
                    self._build(segment)
                except UnbuildableError as error:
                    return str(error)
        return ""

    def _build(self, segment: Segment) -> None:
        bench = self._workshop.bench(self._host)
        model = segment.engine_source or segment.deployed or segment.model
        assert bench is not None and model is not None
        recipe = engine_recipe(bench.flavour, self._options, self._program, segment)
        with (
            tempfile.TemporaryDirectory(prefix="partc-trial-") as folder,
            BundleWriter(Path(folder) / "trial") as writer,
        ):
            writer.add_model("segment.onnx", model)
            files = writer.files
            source = EngineSource(tuple(writer.path_of(name) for name in files))
            digest = source_digest(entry.sha256 for entry in files.values())
            key = engine_key(recipe, digest, self._gpu)
            self._workshop.build(self._host, source, recipe, key, self._gpu)
