"""What the report says of engines, and of ops that a host cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from partc.bundle.manifest import HostEntry, Manifest
from partc.ir.engine import EngineEntry, EngineFile
from partc.report import units

_DIGITS = 12  # of a digest: enough to tell two apart, and to find one in the manifest
_MOST_OPS = 4

STATE_TEXT = {"built": "built", "build_on_target": "to be built on the host"}


@dataclass(frozen=True)
class EngineRow:
    """One engine, or one that is still to be built; empty texts are not known.

    Attributes:
        built_for: compute capability and platform.
        key: beginning of the digest under which the engine is looked for.
        sha256: beginning of the digest of its file.
        built: how long that took.
    """

    host: str
    segment: str
    target: str
    precision: str
    state: str
    library: str
    built_for: str
    size: str
    key: str
    sha256: str
    built: str


@dataclass(frozen=True)
class RefusedRow:
    """Ops that a host cannot run, for one reason.

    Attributes:
        where: hosts on which they are now.
    """

    host: str
    ops: tuple[str, ...]
    count: int
    found_by: str
    reason: str
    where: tuple[str, ...]


def engine_rows(manifest: Manifest) -> list[EngineRow]:
    """A row for each engine of each segment."""
    return [
        row
        for name, host in manifest.hosts.items()
        for segment, entry in host.engines.items()
        for row in _rows(name, host, segment, entry)
    ]


def engine_reasons(manifest: Manifest) -> list[tuple[str, str]]:
    """Host, and why engines of it are left to it or are not for all GPUs that were named."""
    return list(
        dict.fromkeys(
            (name, entry.reason)
            for name, host in manifest.hosts.items()
            for entry in host.engines.values()
            if entry.reason
        )
    )


def engine_builders(manifest: Manifest) -> list[tuple[str, str]]:
    """Host, and the agent on whose node engines of it were built."""
    return list(
        dict.fromkeys(
            (name, file.built_by)
            for name, host in manifest.hosts.items()
            for entry in host.engines.values()
            for file in entry.built
            if file.built_by
        )
    )


def engine_sentence(manifest: Manifest) -> str:
    """How many segments bring an engine, and what runs where none fits."""
    entries = [entry for host in manifest.hosts.values() for entry in host.engines.values()]
    built = sum(entry.state == "built" for entry in entries)
    left = len(entries) - built
    begin = f"{units.count(len(entries), 'segment')} {'runs' if len(entries) == 1 else 'run'} as "
    begin += "an engine" if len(entries) == 1 else "engines"
    if built and left:
        begin += f", {built} built with the bundle and {left} to be built on the host"
    else:
        begin += ", built with the bundle" if built else ", to be built on the host"
    return (
        f"{begin}. An engine is taken only where library, version, GPU and "
        "platform are those of its key and it gives the golden answers; elsewhere the host builds "
        "one, or falls back to the segment's ONNX and says so."
    )


def refused_rows(manifest: Manifest) -> list[RefusedRow]:
    """A row for each host and reason."""
    host_of = {op: block.host for block in manifest.blocks for op in block.ops}
    rows: list[RefusedRow] = []
    for name, host in manifest.hosts.items():
        groups: dict[tuple[str, str], list[str]] = {}
        for each in host.refused:
            groups.setdefault((each.found_by, each.reason), []).append(each.op)
        for (found_by, reason), ops in groups.items():
            where = dict.fromkeys(host_of[op] for op in ops if op in host_of)
            first = tuple(ops[:_MOST_OPS])
            rows.append(RefusedRow(name, first, len(ops), found_by, reason, tuple(where)))
    return rows


def _rows(name: str, host: HostEntry, segment: str, entry: EngineEntry) -> Iterator[EngineRow]:
    def row(file: EngineFile | None) -> EngineRow:
        key = file.key if file is not None else None
        return EngineRow(
            host=name,
            segment=segment,
            target=host.target,
            precision=entry.precision,
            state=STATE_TEXT[entry.state],
            library=f"{key.flavour} {key.version}" if key else entry.recipe.flavour,
            built_for=f"{key.compute_capability}, {key.platform}" if key else "",
            size=units.size(file.size_bytes) if file else "",
            key=key.digest[:_DIGITS] if key else "",
            sha256=file.sha256[:_DIGITS] if file else "",
            built=units.duration(file.build_s) if file and file.build_s is not None else "",
        )

    if not entry.built:
        yield row(None)
    yield from map(row, entry.built)
