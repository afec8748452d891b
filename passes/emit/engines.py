"""Engines of the hosts that run any: built where that can be done now, else told how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from partc.bundle.engine_table import segment_digest, source_of
from partc.bundle.manifest import Artefact
from partc.bundle.writer import BundleWriter
from partc.errors import BundleError, TargetError, UnbuildableError
from partc.ir.engine import (
    EngineEntry,
    EngineFile,
    EngineOptions,
    EngineRecipe,
    Flavour,
    Gpu,
    ShapeRange,
)
from partc.ir.program import Array, Program
from partc.ir.segment import Segment
from partc.ir.topology import Topology
from partc.passes.contract import Progress
from partc.passes.emit.workshop import Bench, Workshop
from partc.targets.engines import EngineSource
from partc.targets.reference import open_reference

LARGEST_GROWTH = 4
"""How many times its planned size an open dimension may have, where nobody says."""


class UnbuildableSegmentError(BundleError):
    """A segment that its host's builder refuses for every GPU that it was asked for.

    Attributes:
        segment: the segment.
        gpu: one that it cannot be built for.
        reason: what the builder said.
    """

    def __init__(self, segment: Segment, gpu: Gpu, reason: str) -> None:
        ops = ", ".join(segment.ops[:3]) + (" ..." if len(segment.ops) > 3 else "")
        super().__init__(
            f"segment {segment.id!r} ({ops}) cannot be built for host {segment.host!r}, compute "
            f"capability {gpu.compute_capability}: {reason}; keep its ops off that host with "
            "[constraints] forbid, or give the host another precision or target",
            host=segment.host,
        )
        self.segment = segment
        self.gpu = gpu
        self.reason = reason


def add_engines(
    writer: BundleWriter,
    program: Program,
    topology: Topology,
    segments: Sequence[Sequence[Segment]],
    artefacts: Mapping[str, Mapping[str, Artefact]],
    workshop: Workshop,
    progress: Progress,
) -> dict[str, dict[str, EngineEntry]]:
    """Host -> segment -> its engine.

    Args:
        segments: of each plan, in the order in which they run.

    Raises:
        UnbuildableSegmentError: a segment cannot be built for the host that the plan gives it to.
    """
    benches = {name: bench for name in topology.hosts if (bench := workshop.bench(name))}
    if not benches:
        return {}
    every = {segment.id: segment for plan in segments for segment in plan}
    wanted = [segment for segment in every.values() if segment.host in benches]
    golden = _golden(writer, program, segments, {segment.id for segment in wanted}, progress)
    found: dict[str, dict[str, EngineEntry]] = {name: {} for name in benches}
    for number, segment in enumerate(wanted):
        told = _told(progress, segment, benches[segment.host], number / len(wanted))
        maker = _Maker(writer, program, topology, workshop, benches[segment.host], told)
        artefact = artefacts[segment.host][segment.id]
        found[segment.host][segment.id] = maker.entry(segment, artefact, golden[segment.id])
    return found


def left_to_hosts(
    topology: Topology, workshop: Workshop, engines: Mapping[str, Mapping[str, EngineEntry]]
) -> tuple[str, ...]:
    """Sentences on engines that could have been built now, and were not."""
    left: dict[tuple[str, str], list[str]] = {}
    for host, entries in engines.items():
        bench = workshop.bench(host)
        if topology.hosts[host].agent is None and not (bench and bench.gpus):
            continue  # nobody expected any
        for segment, entry in entries.items():
            if entry.state == "build_on_target" and entry.reason:
                left.setdefault((host, entry.reason), []).append(segment)
    return tuple(
        f"host {host!r} has to build the engines of {', '.join(segments)} itself: {reason}"
        for (host, reason), segments in left.items()
    )


def _told(progress: Progress, segment: Segment, bench: Bench, fraction: float) -> Progress:
    where = f" on {bench.builder.where}" if bench.builder.where and bench.gpus else ""
    activity = f"building the engine of {segment.id}{where}"
    progress(activity, fraction)

    def tell(phase: str, done: float | None) -> None:
        share = "" if done is None else f" {done:.0%}"
        progress(f"{activity}: {phase}{share}", fraction)

    return tell


class _Maker:
    """Makes the entries of one host's segments."""

    def __init__(
        self,
        writer: BundleWriter,
        program: Program,
        topology: Topology,
        workshop: Workshop,
        bench: Bench,
        progress: Progress,
    ) -> None:
        self._writer = writer
        self._program = program
        self._topology = topology
        self._workshop = workshop
        self._bench = bench
        self._progress = progress

    def entry(self, segment: Segment, artefact: Artefact, golden: list[str]) -> EngineEntry:
        options = self._topology.hosts[segment.host].engine
        source: list[str] = []
        if segment.engine_source is not None:
            path = f"hosts/{segment.host}/{segment.id}.engine.onnx"
            source = [self._writer.add_model(path, segment.engine_source)]
        entry = EngineEntry(
            recipe=engine_recipe(self._bench.flavour, options, self._program, segment),
            segment_sha256="0" * 64,
            precision=segment.precision,
            state="build_on_target",
            source=source,
            golden=golden,
        )
        names = source_of(entry, artefact)
        digest = segment_digest(self._writer.files, names)
        entry = entry.model_copy(update={"segment_sha256": digest})
        built: list[EngineFile] = []
        refused: dict[Gpu, str] = {}
        left: dict[Gpu, str] = {}
        for gpu in self._bench.gpus:
            try:
                built.append(self._built(segment, entry, names, gpu))
            except UnbuildableError as error:
                refused[gpu] = str(error)
            except TargetError as error:  # the machine's fault, so the host may do better
                left[gpu] = str(error)
        if refused and not built and not left:
            gpu, reason = next(iter(refused.items()))
            raise UnbuildableSegmentError(segment, gpu, reason)
        reasons = [
            self._bench.reason,
            *(
                f"not for compute capability {gpu.compute_capability}: {why}"
                for gpu, why in {**refused, **left}.items()
            ),
        ]
        return entry.model_copy(
            update={
                "state": "built" if built else "build_on_target",
                "reason": "; ".join(each for each in reasons if each),
                "built": built,
            }
        )

    def _built(
        self, segment: Segment, entry: EngineEntry, names: Sequence[str], gpu: Gpu
    ) -> EngineFile:
        key = entry.key_for(gpu)
        source = EngineSource(tuple(self._writer.path_of(name) for name in names))
        made = self._workshop.build(segment.host, source, entry.recipe, key, gpu, self._progress)
        suffix = gpu.compute_capability.replace(".", "")
        name = f"hosts/{segment.host}/{segment.id}.sm{suffix}.{gpu.flavour}"
        self._writer.add_bytes(name, made.path.read_bytes())
        listed = self._writer.files[name]
        return EngineFile(
            key=key, path=name, sha256=listed.sha256, size_bytes=listed.size_bytes,
            build_s=round(made.build_s, 3), built_by=made.built_by,
        )  # fmt: skip


def engine_recipe(
    flavour: Flavour, options: EngineOptions, program: Program, segment: Segment
) -> EngineRecipe:
    """How a segment is built.

    Raises:
        BundleError: as `segment_shapes`.
    """
    return EngineRecipe.of(flavour, options, segment_shapes(options, program, segment))


def segment_shapes(
    options: EngineOptions, program: Program, segment: Segment
) -> dict[str, ShapeRange]:
    """The shapes that an engine has to accept, for inputs with open dimensions.

    Raises:
        BundleError: the shapes that were given do not hold the planned ones.
    """
    shapes: dict[str, ShapeRange] = {}
    for name in segment.inputs:
        info = program.tensor(name)
        if info.shape is not None and all(isinstance(dim, int) for dim in info.shape):
            continue
        planned = list(info.planned_shape or ())
        open_dims = info.shape or (None,) * len(planned)
        low = [
            size if isinstance(dim, int) else min(1, size)
            for dim, size in zip(open_dims, planned, strict=True)
        ]
        high = [
            size if isinstance(dim, int) else size * LARGEST_GROWTH
            for dim, size in zip(open_dims, planned, strict=True)
        ]
        if name in options.shapes:
            low, high = (list(each) for each in options.shapes[name])
        try:
            shapes[name] = ShapeRange(min=low, opt=planned, max=high)
        except ValueError:
            raise BundleError(
                f"host {segment.host!r}: the shapes of {name!r} in [hosts.{segment.host}.engine] "
                f"must be a least and a largest one around the planned {tuple(planned)}",
                host=segment.host,
            ) from None
    return shapes


def _golden(
    writer: BundleWriter,
    program: Program,
    plans: Sequence[Iterable[Segment]],
    wanted: set[str],
    progress: Progress,
) -> dict[str, list[str]]:
    """Inputs and outputs of segments, on which engines will be tested before they serve."""
    assert program.verification is not None
    found: dict[str, list[str]] = {}
    progress("running the segments for golden pairs", None)
    for plan in plans:
        held: dict[str, Array] = dict(program.verification.feeds)
        for segment in plan:
            if segment.model is None:
                continue
            feeds = {name: held[name] for name in segment.inputs}
            with open_reference(segment.deployed or segment.model) as runner:
                outputs = runner.run(feeds)
            held.update(outputs)
            if segment.id in wanted and segment.id not in found:
                folder = f"hosts/{segment.host}"
                paths = [f"{folder}/{segment.id}.{side}.npz" for side in ("input", "output")]
                writer.add_arrays(paths[0], feeds)
                writer.add_arrays(paths[1], outputs)
                found[segment.id] = paths
    return found
