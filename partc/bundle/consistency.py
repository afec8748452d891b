"""What must hold of a manifest beyond the types of its fields; manifests are hostile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from partc.bundle.paths import safe_relative_path
from partc.codecs import CODEC_NAMES, NONE
from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.bundle.manifest import CallEntry, Manifest, PlanEntry, SegmentEntry

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


def check_consistency(manifest: Manifest) -> None:
    """Check what types cannot.

    Raises:
        ValueError: with the first thing that is wrong.
    """
    for plan in manifest.plans:
        _check_names(manifest, plan)
        _check_codecs(plan)
        _check_calls(manifest, plan)
    _check_shared_ids(manifest)
    _check_files(manifest)


def _check_shared_ids(manifest: Manifest) -> None:
    """A segment id means the same in every plan; a call id is in one plan only."""
    segments: dict[str, SegmentEntry] = {}
    calls: set[str] = set()
    for plan in manifest.plans:
        for segment in plan.segments:
            if segments.setdefault(segment.id, segment) != segment:
                raise ValueError(f"segment {segment.id!r} differs between two plans")
        for call in plan.calls:
            if call.id in calls:
                raise ValueError(f"call {call.id!r} is in two plans")
            calls.add(call.id)


def _check_names(manifest: Manifest, plan: PlanEntry) -> None:
    for kind, names in (
        ("segment", [s.id for s in plan.segments]),
        ("call", [c.id for c in plan.calls]),
    ):
        for name in names:
            if not _IDENTIFIER.match(name):
                raise ValueError(f"{kind} id {name!r} is not usable")
        if len(set(names)) != len(names):
            raise ValueError(f"two {kind}s have the same id")
    if plan.root != manifest.plan.root:
        raise ValueError("all plans must have the same root host")
    if plan.root not in manifest.hosts:
        raise ValueError(f"root host {plan.root!r} is not among the hosts")
    for segment in plan.segments:
        if segment.host not in manifest.hosts:
            raise ValueError(f"segment {segment.id!r} is on unknown host {segment.host!r}")
        if segment.id not in manifest.hosts[segment.host].artefacts:
            raise ValueError(f"host {segment.host!r} has no artefact for segment {segment.id!r}")
        for tensor in (*segment.inputs, *segment.outputs):
            if tensor not in manifest.tensors:
                raise ValueError(f"segment {segment.id!r} names unknown tensor {tensor!r}")


def _check_codecs(plan: PlanEntry) -> None:
    for transfer in plan.transfers:
        if transfer.codec not in (NONE, *CODEC_NAMES):
            raise ValueError(unknown_name("codec", transfer.codec, (NONE, *CODEC_NAMES)))


def _check_files(manifest: Manifest) -> None:
    for path, entry in manifest.files.items():
        if not safe_relative_path(path):
            raise ValueError(f"file path {path!r} leaves the bundle")
        if not _SHA256.match(entry.sha256):
            raise ValueError(f"the digest of {path!r} is not a SHA-256")
    for name, host in manifest.hosts.items():
        for artefact in (*host.artefacts.values(), *host.fallback.values()):
            for path in (artefact.path, *artefact.data):
                if path not in manifest.files:
                    raise ValueError(f"artefact {path!r} of host {name!r} has no digest")


def _check_calls(manifest: Manifest, plan: PlanEntry) -> None:
    if not plan.calls or plan.calls[0].caller is not None or plan.calls[0].host != plan.root:
        raise ValueError("the first call must be the request itself, at the root host")
    calls = {call.id: call for call in plan.calls}
    segments = {segment.id: segment for segment in plan.segments}
    reached: set[str] = set()
    for call in _reachable_calls(calls, plan.calls[0]):
        for step in call.steps:
            if step.run is not None:
                if step.run not in segments:
                    raise ValueError(f"call {call.id!r} runs unknown segment {step.run!r}")
                if segments[step.run].host != call.host:
                    raise ValueError(f"call {call.id!r} runs a segment of another host")
                if step.run in reached:
                    raise ValueError(f"segment {step.run!r} is run twice")
                reached.add(step.run)
        for tensor in (*call.inputs, *call.outputs):
            if tensor not in manifest.tensors:
                raise ValueError(f"call {call.id!r} names unknown tensor {tensor!r}")
    if missed := set(segments) - reached:
        raise ValueError(f"segment {sorted(missed)[0]!r} is never run")


def _reachable_calls(calls: dict[str, CallEntry], root: CallEntry) -> Iterator[CallEntry]:
    seen, stack = {root.id}, [root]
    while stack:
        call = stack.pop()
        yield call
        for step in call.steps:
            if step.call is None:
                continue
            if step.call not in calls:
                raise ValueError(f"call {call.id!r} makes unknown call {step.call!r}")
            if step.call in seen:
                raise ValueError(f"call {step.call!r} is made twice")
            if calls[step.call].caller != call.host:
                raise ValueError(f"call {step.call!r} is made by the wrong host")
            seen.add(step.call)
            stack.append(calls[step.call])
