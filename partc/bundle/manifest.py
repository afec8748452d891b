"""The runtime manifest: what a bundle holds and how its hosts carry a request through it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from partc.codecs import CODEC_NAMES, NONE
from partc.errors import BundleError
from partc.ir.topology import Topology
from partc.suggest import unknown_name

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """A tensor that crosses a boundary.

    Attributes:
        dtype: numpy name, or ``string``.
        shape: as the model writes it: numbers, symbols, or null; null if the rank is unknown.
        planned_shape: the shape the costs were taken for.
    """

    name: str
    dtype: str
    shape: list[int | str | None] | None
    planned_shape: list[int] | None = None


class ModelInfo(_Strict):
    """The model that was compiled. ``sha256`` is of the file it was read from."""

    name: str
    sha256: str | None
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class Artefact(_Strict):
    """A file that a host loads to run one segment."""

    path: str
    format: Literal["onnx"]


class HostEntry(_Strict):
    """What one host needs.

    Attributes:
        optimization: the backend's level at which segments are loaded, as they were measured.
        artefacts: segment id -> the file of a segment that this host runs.
        fallback: segment id -> the file of a segment of another host, with which this host
            finishes a request when that one does not answer.
        no_fallback_reason: why ``fallback`` is empty although other hosts take part.
    """

    target: str
    backend: str
    optimization: str = "all"
    threads: int
    slowdown: float
    address: str | None
    artefacts: dict[str, Artefact]
    fallback: dict[str, Artefact] = {}
    no_fallback_reason: str | None = None


class SegmentEntry(_Strict):
    """A segment; see `partc.ir.segment.Segment`."""

    id: str
    host: str
    ops: list[str]
    inputs: list[str]
    outputs: list[str]
    predicted_s: Seconds


class StepEntry(_Strict):
    """One thing a host does for a request."""

    run: str | None = None
    call: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.run is None) == (self.call is None):
            raise ValueError("a step either runs a segment or makes a call")
        return self


class CallEntry(_Strict):
    """A round trip between two hosts; see `partc.ir.segment.Call`."""

    id: str
    host: str
    caller: str | None
    inputs: list[str]
    outputs: list[str]
    steps: list[StepEntry]
    is_last: bool


class TransferEntry(_Strict):
    """One tensor moved over one link; ``from`` and ``to`` are hosts, ``bytes`` after the codec."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    tensor: str
    sender: str = Field(alias="from")
    receiver: str = Field(alias="to")
    bytes: int
    codec: str = "none"
    predicted_s: Seconds


class PlanEntry(_Strict):
    """The chosen plan. ``root`` is the host where requests start; its call is ``calls[0]``."""

    root: str
    segments: list[SegmentEntry]
    transfers: list[TransferEntry]
    calls: list[CallEntry]


class CostEntry(_Strict):
    """A cost with its provenance; see `partc.ir.cost.Cost`."""

    median_s: Seconds
    spread_s: Seconds
    samples: int
    provenance: Literal["measured", "scaled", "imported", "estimated"]
    measured_at: str = ""


class BlockEntry(_Strict):
    """A block and what it costs on each host that can run it; ``outputs`` with their bytes."""

    name: str
    ops: list[str]
    host: str
    outputs: dict[str, int]
    costs: dict[str, CostEntry]


class StrategyEntry(_Strict):
    """A named way of placing the model; see `partc.ir.plan.Strategy`."""

    name: str
    predicted_s: Seconds
    bytes_sent: int
    compute_s: dict[str, Seconds]
    transfer_s: Seconds


class CertificateEntry(_Strict):
    """What was proven; see `partc.ir.plan.Certificate`."""

    objective: str
    predicted_s: Seconds
    bound_s: float
    gap: float
    status: str
    solver: str
    solve_s: Seconds
    maximum_flow_s: float | None = None
    latency_s: Seconds | None = None
    simulated_s: Seconds | None = None
    predicted_j: float | None = None
    bound_j: float | None = None


class VerdictEntry(_Strict):
    """Whether splitting pays; see `partc.ir.plan.Verdict`."""

    split: bool
    choice: str
    break_even_mbit_s: float | None
    split_range_mbit_s: tuple[float, float | None] | None
    sentence: str


class SweepEntry(_Strict):
    """Predicted latency of each strategy at one bandwidth."""

    bandwidth_mbit_s: float
    predicted_s: dict[str, Seconds]


class VerificationEntry(_Strict):
    """How far the partitioned program was from the whole model; per tensor: absolute, relative.

    Attributes:
        loss: of the outputs by encoded transfers, relative; 0 where nothing is lost.
    """

    max_abs_error: float
    max_rel_error: float
    loss: float = 0.0
    tensors: dict[str, tuple[float, float]]


class FileEntry(_Strict):
    """Digest and size of one file of the bundle."""

    sha256: str
    size_bytes: int


class Manifest(_Strict):
    """Everything a host needs to know, and everything a reader may want to check."""

    schema_version: int
    partc_version: str
    created_at: str
    tools: dict[str, str]
    model: ModelInfo
    topology: Topology
    pipeline: str
    tensors: dict[str, TensorSpec]
    hosts: dict[str, HostEntry]
    plan: PlanEntry
    blocks: list[BlockEntry]
    strategies: list[StrategyEntry]
    certificate: CertificateEntry
    verdict: VerdictEntry | None
    sweep: list[SweepEntry]
    verified: VerificationEntry
    notices: list[str]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_names(self)
        _check_files(self)
        _check_calls(self)
        _check_codecs(self)
        return self

    @property
    def root(self) -> str:
        """The host where requests start."""
        return self.plan.root

    def segment(self, segment_id: str) -> SegmentEntry:
        """A segment by its id."""
        return next(s for s in self.plan.segments if s.id == segment_id)

    def call(self, call_id: str) -> CallEntry:
        """A call by its id."""
        return next(c for c in self.plan.calls if c.id == call_id)

    @classmethod
    def load(cls, bundle: Path) -> Manifest:
        """Read and check the manifest of a bundle.

        Raises:
            BundleError: missing, not JSON, of a newer schema, or inconsistent.
        """
        path = bundle / MANIFEST_NAME
        if not bundle.is_dir():
            raise BundleError(f"bundle {bundle} is not a folder; give what --output named")
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise BundleError(
                f"{bundle} is not a bundle: it has no {MANIFEST_NAME}; make one with partc compile"
            ) from None
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path} is not valid JSON: {error}") from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: Any, origin: str = MANIFEST_NAME) -> Manifest:
        """Check plain data."""
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{origin} has schema version {version}, this partc reads up to {SCHEMA_VERSION}; "
                "update partc on this host"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(str(part) for part in detail["loc"]) or "manifest"
            message = detail["msg"].removeprefix("Value error, ")
            raise BundleError(f"{origin}: {where}: {message}") from error

    def to_json(self) -> str:
        """The manifest as it is written to disk."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def safe_relative_path(path: str) -> bool:
    """Whether ``path`` stays inside the folder that it is relative to."""
    pure = PurePosixPath(path)
    return (
        bool(pure.parts)
        and not pure.is_absolute()
        and ".." not in pure.parts
        and "\\" not in path
        and "\0" not in path
        and str(pure) == path
    )


def _check_names(manifest: Manifest) -> None:
    plan = manifest.plan
    for kind, names in (
        ("segment", [s.id for s in plan.segments]),
        ("call", [c.id for c in plan.calls]),
    ):
        for name in names:
            if not _IDENTIFIER.match(name):
                raise ValueError(f"{kind} id {name!r} is not usable")
        if len(set(names)) != len(names):
            raise ValueError(f"two {kind}s have the same id")
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


def _check_codecs(manifest: Manifest) -> None:
    for transfer in manifest.plan.transfers:
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
            if artefact.path not in manifest.files:
                raise ValueError(f"artefact {artefact.path!r} of host {name!r} has no digest")


def _check_calls(manifest: Manifest) -> None:
    plan = manifest.plan
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
