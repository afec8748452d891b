"""The runtime manifest: what a bundle holds and how its hosts carry a request through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from partc.bundle.consistency import check_consistency
from partc.bundle.tiling import TilingEntry
from partc.errors import BundleError
from partc.ir.cost import Provenance
from partc.ir.engine import EngineEntry
from partc.ir.topology import Address, Topology

SCHEMA_VERSION = 2
"""2 has steps that push and await; bundles of 1 are read as they are."""

MANIFEST_NAME = "manifest.json"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Objective = Literal["latency", "throughput", "energy"]
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
    """A file that a host loads to run one segment; ``data`` are files that it refers to."""

    path: str
    format: Literal["onnx"]
    data: list[str] = []


class RefusalEntry(_Strict):
    """An op that a host cannot run; see `partc.ir.refusal.Refusal`."""

    op: str
    reason: str
    found_by: Literal["backend", "builder"] = "backend"


class HostEntry(_Strict):
    """What one host needs.

    Attributes:
        optimization: the backend's level at which segments are loaded, as they were measured.
        provider: the backend's execution provider that runs them; empty for its own choice.
        costs_precision: in which its costs were measured or estimated; empty where nobody said.
        artefacts: segment id -> the file of a segment that this host runs.
        fallback: segment id -> the file of a segment of another host, with which this host
            finishes a request when that one does not answer.
        no_fallback_reason: why ``fallback`` is empty although other hosts take part.
        engines: segment id -> the engine that this host runs it with, where its target has any;
            the artefact is what it runs where no engine can be had.
        refused: ops of the model that it cannot run, and why.
    """

    target: str
    backend: str
    optimization: str = "all"
    provider: str = ""
    provider_options: dict[str, str] = {}
    threads: int
    costs_precision: Annotated[str, Field(max_length=16)] = ""
    slowdown: float
    address: Address | None
    artefacts: dict[str, Artefact]
    fallback: dict[str, Artefact] = {}
    no_fallback_reason: str | None = None
    engines: dict[str, EngineEntry] = {}
    refused: list[RefusalEntry] = []


class SegmentEntry(_Strict):
    """A segment; see `partc.ir.segment.Segment`.

    Attributes:
        weights_bytes, peak_activation_bytes: of its memory in the model's own precision; see
            `partc.targets.memory`. None in bundles that do not say.
        provenance: of ``predicted_s`` where the segment was measured as a whole; None where that is
            the sum of its blocks.
    """

    id: str
    host: str
    ops: list[str]
    inputs: list[str]
    outputs: list[str]
    predicted_s: Seconds
    weights_bytes: Annotated[int, Field(ge=0)] | None = None
    peak_activation_bytes: Annotated[int, Field(ge=0)] | None = None
    provenance: Provenance | None = None


class ExchangeEntry(_Strict):
    """Tensors sent from host to host beside the calls; see `partc.ir.segment.Exchange`."""

    id: str
    peer: str
    tensors: list[str]


class StepEntry(_Strict):
    """One thing a host does for a request; see `partc.ir.segment.Step`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    run: str | None = None
    call: str | None = None
    push: ExchangeEntry | None = None
    awaits: ExchangeEntry | None = Field(default=None, alias="await")

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = (self.run, self.call, self.push, self.awaits)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(
                "a step either runs a segment or makes a call, or pushes or awaits tensors"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Steps of schema 1 are written as they were, so that digests of plans stay the same."""
        data: dict[str, Any] = write(self)
        return {k: v for k, v in data.items() if v is not None or k in ("run", "call")}


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
    bytes: Annotated[int, Field(ge=0)]
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
    provenance: Provenance
    measured_at: str = ""
    interval_s: Seconds = 0.0
    settled: bool = True
    fingerprint: str = ""
    source: str = ""


class BlockEntry(_Strict):
    """A block and what it costs on each host that can run it; ``outputs`` with their bytes."""

    name: str
    ops: list[str]
    host: str
    inputs: list[str] = []
    outputs: dict[str, int]
    costs: dict[str, CostEntry]


class StrategyEntry(_Strict):
    """A named way of placing the model; see `partc.ir.plan.Strategy`."""

    name: str
    predicted_s: Seconds
    bytes_sent: int
    compute_s: dict[str, Seconds]
    transfer_s: Seconds
    period_s: Seconds = 0.0
    energy_j: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


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
    break_even_rtt_ms: float | None = None
    break_even_server_speed: float | None = None
    bandwidths_examined: bool = True


class SweepEntry(_Strict):
    """Predicted latency of each strategy at one bandwidth."""

    bandwidth_mbit_s: float
    predicted_s: dict[str, Seconds]


class CostVectorEntry(_Strict):
    """A plan's latency as a sum; see `partc.ir.portfolio.CostVector`."""

    constant_s: Seconds
    device_s: Seconds
    server_s: Seconds
    sent_bytes: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    round_trips: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def latency_s(
        self,
        bandwidth_mbit_s: float,
        rtt_s: float,
        device_slowdown: float = 1.0,
        server_slowdown: float = 1.0,
        message_s_per_byte: float = 0.0,
    ) -> float:
        """The plan's latency under a condition."""
        sending_s = self.sent_bytes * (8e-6 / bandwidth_mbit_s + message_s_per_byte)
        return (
            self.constant_s
            + self.device_s * device_slowdown
            + self.server_s * server_slowdown
            + sending_s
            + self.round_trips * rtt_s
        )


class AlternativeEntry(_Strict):
    """One plan of the portfolio; ``survives`` are hosts that it does not need."""

    name: str
    plan: PlanEntry
    cost: CostVectorEntry
    survives: list[str]


class RuledPointEntry(_Strict):
    """Which plan is best at one condition."""

    bandwidth_mbit_s: Positive
    device_slowdown: Positive
    server_slowdown: Positive
    plan: str
    predicted_s: Seconds


class PortfolioEntry(_Strict):
    """Plans for changing conditions; see `partc.ir.portfolio.Portfolio`."""

    plans: list[AlternativeEntry]
    base_bandwidth_mbit_s: Positive
    base_rtt_s: Seconds
    message_s_per_byte: Seconds = 0.0
    tolerance: Positive
    certified_fraction: Annotated[float, Field(ge=0, le=1)]
    known_plans: Annotated[int, Field(ge=0)]
    solve_s: Seconds
    map: list[RuledPointEntry]


class ParetoPointEntry(_Strict):
    """One plan of a front; see `partc.ir.pareto.ParetoPoint`."""

    latency_s: Seconds
    period_s: Seconds
    energy_j: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    bytes_sent: int
    blocks: dict[str, int]


class ParetoEntry(_Strict):
    """Plans none of which is better than another in both objectives."""

    objectives: tuple[Objective, Objective]
    points: list[ParetoPointEntry]
    complete: bool


class RefinementRoundEntry(_Strict):
    """One plan whose segments were measured; see `partc.ir.refinement.RefinementRound`.

    Attributes:
        blocks: host -> how many blocks it had.
    """

    blocks: dict[str, int]
    predicted_s: Seconds
    measured_s: Seconds
    segments: Annotated[int, Field(ge=1)]


class RefinementEntry(_Strict):
    """Solving, measuring, correcting; see `partc.ir.refinement.Refinement`."""

    rounds: list[RefinementRoundEntry]
    outcome: Literal["settled", "budget", "unmeasured"]
    spent_s: Seconds
    drift: Positive


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
    size_bytes: Annotated[int, Field(ge=0)]


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
    portfolio: PortfolioEntry | None = None
    pareto: ParetoEntry | None = None
    refinement: RefinementEntry | None = None
    tiling: TilingEntry | None = None
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
        check_consistency(self)
        return self

    @property
    def root(self) -> str:
        """The host where requests start."""
        return self.plan.root

    @property
    def plans(self) -> list[PlanEntry]:
        """The chosen plan, then those of the portfolio."""
        others = self.portfolio.plans if self.portfolio is not None else []
        return [self.plan, *(each.plan for each in others)]

    def segment(self, segment_id: str) -> SegmentEntry:
        """A segment of any plan by its id."""
        return next(s for plan in self.plans for s in plan.segments if s.id == segment_id)

    def call(self, call_id: str) -> CallEntry:
        """A call of any plan by its id."""
        return next(c for plan in self.plans for c in plan.calls if c.id == call_id)

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
