"""What must hold of a manifest beyond the types of its fields; manifests are hostile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from partc.bundle.engine_table import check_engines
from partc.bundle.exchanges import check_exchanges, exchange_ids
from partc.bundle.paths import safe_relative_path
from partc.bundle.tiling import check_tiling
from partc.codecs import CODEC_NAMES, NONE, applies_to
from partc.ir.tensor import element_bits
from partc.suggest import unknown_name

if TYPE_CHECKING:
    from partc.bundle.manifest import CallEntry, Manifest, PlanEntry, PortfolioEntry, SegmentEntry

CHOSEN = "chosen"
"""The name of the plan that is optimal as declared; those of a portfolio have others."""

_DEEPEST_CALLS = 64
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_ELEMENT_TYPE = re.compile(r"^(string|bool|(u?int|float|complex|bfloat)\d+(_\w+)?)$")
_IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


def check_consistency(manifest: Manifest) -> None:
    """Check what types cannot.

    Raises:
        ValueError: with the first thing that is wrong.
    """
    _check_tensors(manifest)
    for plan in manifest.plans:
        _check_names(manifest, plan)
        _check_transfers(manifest, plan)
        _check_calls(manifest, plan)
        _check_flow(manifest, plan)
        check_exchanges(manifest, plan)
    _check_shared_ids(manifest)
    _check_files(manifest)
    check_engines(manifest)
    check_tiling(manifest)
    if manifest.portfolio is not None:
        _check_portfolio(manifest, manifest.portfolio)


def _check_tensors(manifest: Manifest) -> None:
    if set(manifest.hosts) != set(manifest.topology.hosts):
        raise ValueError("the hosts are not those of the topology")
    for name, spec in manifest.tensors.items():
        if spec.name != name:
            raise ValueError(f"tensor {name!r} is described under the name {spec.name!r}")
        if any(side < 0 for side in spec.planned_shape or ()):
            raise ValueError(f"tensor {name!r} has a negative dimension")
        if not _is_element_type(spec.dtype):
            raise ValueError(f"tensor {name!r} has no element type {spec.dtype!r}")
    for spec in (*manifest.model.inputs, *manifest.model.outputs):
        if manifest.tensors.get(spec.name) != spec:
            raise ValueError(f"tensor {spec.name!r} of the model is not among the tensors")


def _is_element_type(dtype: str) -> bool:
    if not _ELEMENT_TYPE.match(dtype):  # numpy has names for objects, dates and records too
        return False
    try:
        return element_bits(dtype) > 0
    except TypeError:
        return False


def _check_shared_ids(manifest: Manifest) -> None:
    """A segment id means the same in every plan; the id of a call or a push is in one plan only."""
    segments: dict[str, SegmentEntry] = {}
    calls: set[str] = set()
    for plan in manifest.plans:
        for segment in plan.segments:
            if segments.setdefault(segment.id, segment) != segment:
                raise ValueError(f"segment {segment.id!r} differs between two plans")
        for name in (*(call.id for call in plan.calls), *exchange_ids(plan)):
            if name in calls:
                raise ValueError(f"call or push {name!r} is in two plans")
            calls.add(name)


def _check_names(manifest: Manifest, plan: PlanEntry) -> None:
    for kind, names in (
        ("segment", [s.id for s in plan.segments]),
        ("call", [*(c.id for c in plan.calls), *exchange_ids(plan)]),
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


def _check_transfers(manifest: Manifest, plan: PlanEntry) -> None:
    seen: set[tuple[str, str, str]] = set()
    for transfer in plan.transfers:
        name, codec = transfer.tensor, transfer.codec
        if name not in manifest.tensors:
            raise ValueError(f"a transfer names unknown tensor {name!r}")
        for host in (transfer.sender, transfer.receiver):
            if host not in manifest.hosts:
                raise ValueError(
                    f"the transfer of {name!r}: {unknown_name('host', host, manifest.hosts)}"
                )
        way = (name, transfer.sender, transfer.receiver)
        if transfer.sender == transfer.receiver or way in seen:
            raise ValueError(f"tensor {name!r} is sent to its own host, or to one host twice")
        seen.add(way)
        if codec not in (NONE, *CODEC_NAMES):
            raise ValueError(unknown_name("codec", codec, (NONE, *CODEC_NAMES)))
        dtype = manifest.tensors[name].dtype
        if not applies_to(codec, dtype):
            raise ValueError(f"codec {codec!r} cannot carry {name!r}, a tensor of type {dtype}")


def _check_flow(manifest: Manifest, plan: PlanEntry) -> None:
    """Whatever is read is an input or made by one segment, and so is every output."""
    inputs = {spec.name for spec in manifest.model.inputs}
    outputs = {spec.name for spec in manifest.model.outputs}
    made: set[str] = set()
    for segment in plan.segments:
        for tensor in segment.outputs:
            if tensor in made or tensor in inputs:
                raise ValueError(f"tensor {tensor!r} is made twice")
            made.add(tensor)
    for segment in plan.segments:
        for tensor in segment.inputs:
            if tensor not in made | inputs:
                raise ValueError(f"segment {segment.id!r} reads {tensor!r}, which nothing makes")
    request = plan.calls[0]
    if set(request.inputs) != inputs or set(request.outputs) != outputs:
        raise ValueError("the request does not take the model's inputs and give its outputs")
    if missing := outputs - made - inputs:
        raise ValueError(f"output {sorted(missing)[0]!r} is made by no segment")


def _check_portfolio(manifest: Manifest, portfolio: PortfolioEntry) -> None:
    names: set[str] = set()
    if not portfolio.plans:
        raise ValueError("the portfolio has no plans")
    for each in portfolio.plans:
        if not _IDENTIFIER.match(each.name) or each.name == CHOSEN:
            raise ValueError(f"a plan of the portfolio cannot be named {each.name!r}")
        if each.name in names:
            raise ValueError(f"two plans of the portfolio are named {each.name!r}")
        names.add(each.name)
        needed = {call.host for call in each.plan.calls}
        for host in each.survives:
            if host not in manifest.hosts:
                raise ValueError(
                    f"plan {each.name!r}: {unknown_name('host', host, manifest.hosts)}"
                )
            if host in needed:
                raise ValueError(f"plan {each.name!r} needs host {host!r}, and so cannot lose it")
    for point in portfolio.map:
        if point.plan not in names:
            raise ValueError(f"the map of the portfolio: {unknown_name('plan', point.plan, names)}")


def _check_files(manifest: Manifest) -> None:
    for path, entry in manifest.files.items():
        if not safe_relative_path(path):
            raise ValueError(f"file path {path!r} leaves the bundle")
        if not _SHA256.match(entry.sha256):
            raise ValueError(f"the digest of {path!r} is not a SHA-256")
    owner = {segment.id: segment.host for plan in manifest.plans for segment in plan.segments}
    for name, host in manifest.hosts.items():
        for segment in (*host.artefacts, *host.fallback):
            if segment not in owner:
                raise ValueError(f"host {name!r} has a file of unknown segment {segment!r}")
        for segment in host.artefacts:
            if owner[segment] != name:
                raise ValueError(f"host {name!r} has another host's segment {segment!r} as its own")
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
    made: set[str] = set()
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
        made.add(call.id)
    if missed := set(segments) - reached:
        raise ValueError(f"segment {sorted(missed)[0]!r} is never run")
    if idle := set(calls) - made:
        raise ValueError(f"call {sorted(idle)[0]!r} is never made")


def _reachable_calls(calls: dict[str, CallEntry], root: CallEntry) -> Iterator[CallEntry]:
    seen = {root.id}
    stack = [(root, 1)]
    while stack:
        call, depth = stack.pop()
        if depth > _DEEPEST_CALLS:
            raise ValueError(f"calls are nested more than {_DEEPEST_CALLS} deep")
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
            stack.append((calls[step.call], depth + 1))
