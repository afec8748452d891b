"""Engines of the hosts that run any: built here where that can be done, else told how."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from partc.bundle.engine_table import segment_digest, source_of
from partc.bundle.manifest import Artefact
from partc.bundle.writer import BundleWriter
from partc.errors import BundleError, TargetError
from partc.ir.engine import EngineEntry, EngineFile, EngineOptions, EngineRecipe, Gpu, ShapeRange
from partc.ir.program import Array, Program
from partc.ir.segment import Segment
from partc.ir.topology import Topology
from partc.passes.contract import Progress
from partc.targets.engines import EngineBackend
from partc.targets.reference import open_reference
from partc.targets.registry import backend_names, load_backend, load_target

LARGEST_GROWTH = 4
"""How many times its planned size an open dimension may have, where nobody says."""


def add_engines(
    writer: BundleWriter,
    program: Program,
    topology: Topology,
    segments: Sequence[Sequence[Segment]],
    artefacts: Mapping[str, Mapping[str, Artefact]],
    progress: Progress,
) -> dict[str, dict[str, EngineEntry]]:
    """Host -> segment -> its engine.

    Args:
        segments: of each plan, in the order in which they run.

    Raises:
        BundleError: a segment cannot be built for the host that the plan gives it to.
    """
    backends = {name: backend for name in topology.hosts if (backend := _backend(topology, name))}
    if not backends:
        return {}
    every = {segment.id: segment for plan in segments for segment in plan}
    wanted = [segment for segment in every.values() if segment.host in backends]
    golden = _golden(writer, program, segments, {segment.id for segment in wanted}, progress)
    found: dict[str, dict[str, EngineEntry]] = {name: {} for name in backends}
    for number, segment in enumerate(wanted):
        progress(f"building the engine of {segment.id}", number / len(wanted))
        maker = _Maker(writer, program, topology, backends[segment.host])
        artefact = artefacts[segment.host][segment.id]
        found[segment.host][segment.id] = maker.entry(segment, artefact, golden[segment.id])
    return found


def _backend(topology: Topology, host: str) -> EngineBackend | None:
    name = load_target(topology.hosts[host].target).backend
    if name not in backend_names():
        return None
    backend: object = load_backend(name)
    return backend if isinstance(backend, EngineBackend) else None


class _Maker:
    """Makes the entries of one host's segments."""

    def __init__(
        self, writer: BundleWriter, program: Program, topology: Topology, backend: EngineBackend
    ) -> None:
        self._writer = writer
        self._program = program
        self._topology = topology
        self._backend = backend

    def entry(self, segment: Segment, artefact: Artefact, golden: list[str]) -> EngineEntry:
        options = self._topology.hosts[segment.host].engine
        source: list[str] = []
        if segment.engine_source is not None:
            path = f"hosts/{segment.host}/{segment.id}.engine.onnx"
            source = [self._writer.add_model(path, segment.engine_source)]
        entry = EngineEntry(
            recipe=_recipe(self._backend, options, self._program, segment),
            segment_sha256="0" * 64,
            precision=segment.precision,
            state="build_on_target",
            source=source,
            golden=golden,
        )
        names = source_of(entry, artefact)
        digest = segment_digest(self._writer.files, names)
        entry = entry.model_copy(update={"segment_sha256": digest})
        gpus, reason = self._backend.builders(options.compute_capabilities)
        built: list[EngineFile] = []
        failed: dict[str, str] = {}
        for gpu in gpus:
            try:
                built.append(self._built(segment, entry, names[0], gpu))
            except TargetError as error:
                failed[gpu.compute_capability] = str(error)
        if failed and not built:
            raise self._explained(segment, failed)
        reasons = [reason, *(f"not for compute capability {c}: {why}" for c, why in failed.items())]
        return entry.model_copy(
            update={
                "state": "built" if built else "build_on_target",
                "reason": "; ".join(each for each in reasons if each),
                "built": built,
            }
        )

    def _explained(self, segment: Segment, failed: Mapping[str, str]) -> BundleError:
        ops = ", ".join(segment.ops[:3]) + (" ..." if len(segment.ops) > 3 else "")
        capability, why = next(iter(failed.items()))
        return BundleError(
            f"segment {segment.id!r} ({ops}) cannot be built for host {segment.host!r}, compute "
            f"capability {capability}: {why}; keep its ops off that host with [constraints] "
            "forbid, or give the host another precision or target",
            host=segment.host,
        )

    def _built(self, segment: Segment, entry: EngineEntry, model: str, gpu: Gpu) -> EngineFile:
        with tempfile.TemporaryDirectory(prefix="partc-") as folder:
            output = Path(folder) / "engine"
            self._backend.build(self._writer.path_of(model), entry.recipe, gpu, output)
            suffix = gpu.compute_capability.replace(".", "")
            name = f"hosts/{segment.host}/{segment.id}.sm{suffix}.{gpu.flavour}"
            self._writer.add_bytes(name, output.read_bytes())
        listed = self._writer.files[name]
        return EngineFile(
            key=entry.key_for(gpu), path=name, sha256=listed.sha256, size_bytes=listed.size_bytes
        )


def _recipe(
    backend: EngineBackend, options: EngineOptions, program: Program, segment: Segment
) -> EngineRecipe:
    return EngineRecipe(
        flavour=backend.flavour,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        dla_core=options.dla_core,
        workspace_mib=options.workspace_mib,
        optimization_level=options.optimization_level,
        shapes=segment_shapes(options, program, segment),
    )


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
