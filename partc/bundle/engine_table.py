"""The engines that a manifest names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from partc.ir.engine import EngineEntry, source_digest

if TYPE_CHECKING:
    from partc.bundle.manifest import Artefact, FileEntry, HostEntry, Manifest


def segment_digest(files: Mapping[str, FileEntry], names: Iterable[str]) -> str:
    """Of a segment's ONNX file and the files with weights that it refers to."""
    return source_digest(files[name].sha256 for name in names)


def source_of(entry: EngineEntry, artefact: Artefact) -> tuple[str, ...]:
    """Files of the ONNX that the engine is built from, the model first."""
    return tuple(entry.source) or (artefact.path, *artefact.data)


def check_engines(manifest: Manifest) -> None:
    """What must hold of engines; manifests are hostile.

    Raises:
        ValueError: with the first thing that is wrong.
    """
    for name, host in manifest.hosts.items():
        for segment, entry in host.engines.items():
            if segment not in host.artefacts:
                raise ValueError(f"host {name!r} has an engine for foreign segment {segment!r}")
            _check_entry(manifest, name, host, segment, entry)


def _check_entry(
    manifest: Manifest, name: str, host: HostEntry, segment: str, entry: EngineEntry
) -> None:
    source = source_of(entry, host.artefacts[segment])
    for path in (*source, *entry.golden, *(file.path for file in entry.built)):
        if path not in manifest.files:
            raise ValueError(f"file {path!r} of host {name!r}'s engines has no digest")
    if segment_digest(manifest.files, source) != entry.segment_sha256:
        raise ValueError(f"the engine of segment {segment!r} is for another version of it")
    for file in entry.built:
        listed = manifest.files[file.path]
        if (listed.sha256, listed.size_bytes) != (file.sha256, file.size_bytes):
            raise ValueError(f"engine {file.path!r} has two digests")
