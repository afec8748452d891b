"""What agents and their clients say to each other; each side takes the other's for hostile."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from partc.errors import RequestError
from partc.ir import engine
from partc.measure.sampling import Measurement
from partc.targets.protocol import Detection, Profile, RunSettings, Sampling

PROTOCOL = 2
"""Agents and clients of different numbers do not understand each other."""

CHUNK_BYTES = 1 << 20
LARGEST_MESSAGE_BYTES = 64 << 20
LARGEST_ENGINE_BYTES = 16 << 30
_LONGEST_TIME_S = 1e6
_MOST_SAMPLES = 1_000_000

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=4096)]
Kind = Literal[
    "detect", "unsupported", "fused-groups", "profile", "run-times", "interleaved",
    "builders", "build",
]  # fmt: skip


class Message(BaseModel):
    """Base of all messages: JSON, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """As it is sent."""
        return self.model_dump_json().encode()

    @classmethod
    def read(cls, data: bytes) -> Self:
        """A message of the other side.

        Raises:
            RequestError: it is none.
        """
        try:
            return cls.model_validate_json(data)
        except (ValidationError, RecursionError) as error:
            raise RequestError(f"a message is malformed: {_first(error)}") from error


class Empty(Message):
    """Says nothing but that it was done."""


class Processor(Message):
    """Cores and clocks; frequencies in MHz."""

    name: str
    cores: int
    usable: int
    governor: str = ""
    current_mhz: float | None = None
    highest_mhz: float | None = None


class Gpu(Message):
    """A GPU, by what the system's own files say of it; frequencies in MHz."""

    name: str
    driver: str = ""
    current_mhz: float | None = None
    highest_mhz: float | None = None


class BackendState(Message):
    """A backend that is installed on the node; see `partc.targets.protocol.Detection`."""

    name: str
    available: bool
    reason: str
    version: str
    fingerprint: str


class ServedBundle(Message):
    """What the node serves.

    Attributes:
        identity: digest of plan and artefacts; hosts of one bundle have the same.
    """

    host: str
    model: str
    identity: str
    since: str


class NodeDescription(Message):
    """A node: hardware, software, and how it is at the moment.

    Attributes:
        power_mode: of the board, such as ``MAXN`` or ``15W``; empty where there are none.
        temperatures_c: sensor -> degrees Celsius.
        measuring: what is being measured; empty if nothing is.
    """

    protocol: int
    partc_version: str
    hostname: str
    system: str
    machine: str
    board: str
    processor: Processor
    memory_bytes: int
    memory_available_bytes: int
    gpus: list[Gpu]
    power_mode: str
    temperatures_c: dict[str, float]
    backends: list[BackendState]
    serving: ServedBundle | None
    measuring: str


class Digests(Message):
    """Names of files, by their contents."""

    digests: list[Digest] = Field(max_length=100_000)


class FileHeader(Message):
    """Announces a file; its bytes follow."""

    sha256: Digest
    size_bytes: Annotated[int, Field(ge=0)]


class Feed(Message):
    """An input; its elements in C order are a file. ``datatype`` as the inference protocol's."""

    name: Name
    datatype: Annotated[str, Field(max_length=16)]
    shape: Annotated[list[int], Field(max_length=64)]
    sha256: Digest


class Subject(Message):
    """A model, and what it is run on.

    Attributes:
        graph: the model's graph; see `partc.agent.packing`.
    """

    graph: Digest
    feeds: list[Feed] = Field(default=[], max_length=10_000)


class SourceFile(Message):
    """A file of a segment's ONNX; others refer to it by its name."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]
    sha256: Digest


class EngineJob(Message):
    """An engine to build, or the question which could be built.

    Attributes:
        capabilities: for which GPUs; None leaves it to the backend.
        files: the model first, then the files with weights that it refers to.
        gpu: one of those that the node said it builds for.
    """

    capabilities: Annotated[tuple[engine.Capability, ...], Field(max_length=32)] | None = None
    files: list[SourceFile] = Field(default=[], max_length=64)
    recipe: engine.EngineRecipe | None = None
    gpu: engine.Gpu | None = None


class Builders(Message):
    """GPUs that a node builds for, and why there are none, or not more."""

    gpus: list[engine.Gpu] = Field(max_length=32)
    reason: Annotated[str, Field(max_length=4000)]


class BuiltEngine(Message):
    """An engine that was built, to be fetched; or why the builder refuses the segment.

    Attributes:
        log: what the builder went through, with the time since the start in seconds.
    """

    refused: Annotated[str, Field(max_length=4000)] = ""
    key: engine.EngineKey | None = None
    sha256: Digest | None = None
    size_bytes: Annotated[int, Field(ge=0, le=LARGEST_ENGINE_BYTES)] = 0
    build_s: Annotated[float, Field(ge=0, le=_LONGEST_TIME_S)] = 0.0
    log: Annotated[list[Annotated[str, Field(max_length=600)]], Field(max_length=1000)] = []


class FileName(Message):
    """Asks for a file."""

    sha256: Digest


class Job(Message):
    """Something to find out on the node.

    Attributes:
        subjects: one model; several where they are measured in turn, none where there is none.
        settings, sampling: as `settings_to_plain` and `sampling_to_plain` write them.
        engine: of the kinds ``builders`` and ``build``.
    """

    kind: Kind
    backend: Annotated[str, Field(max_length=128)]
    provider: Annotated[str, Field(max_length=128)] = ""
    subjects: list[Subject] = Field(default=[], max_length=10_000)
    settings: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    engine: EngineJob | None = None


class JobEvent(Message):
    """Sent while a job goes on, and at its end.

    Attributes:
        state: ``measuring`` now and then; ``done`` once, with an answer.
        fingerprint: of what was measured.
        phase, fraction: what a builder is at, and how much of that is done, where it says so.
    """

    state: Literal["measuring", "done"]
    answer: dict[str, Any] | None = None
    fingerprint: str = ""
    phase: Annotated[str, Field(max_length=600)] = ""
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None


class Offer(Message):
    """A bundle of which a host's part could be sent."""

    host: Annotated[str, Field(max_length=128)]
    manifest: str


class OfferAnswer(Message):
    """What the agent lacks of an offered bundle.

    Attributes:
        id: by which to go on.
        serves_it: it is the bundle that the agent serves; nothing remains to be done.
    """

    id: Digest
    missing: list[Digest]
    serves_it: bool


class BundleId(Message):
    """Names an offered bundle."""

    id: Digest


class PrepareEvent(Message):
    """Sent while a bundle is loaded, and at the end, with sentences for the user."""

    state: Literal["preparing", "done"]
    said: list[str] = Field(default=[], max_length=10_000)


class Terms(Message):
    """As `partc.agent.terms.MessageTerms`."""

    write_s_per_byte: Annotated[float, Field(ge=0, le=1)]
    read_s_per_byte: Annotated[float, Field(ge=0, le=1)]
    encode_s_per_byte: dict[str, Annotated[float, Field(ge=0, le=1)]]
    decode_s_per_byte: dict[str, Annotated[float, Field(ge=0, le=1)]]


class LinkRequest(Message):
    """Asks an agent to measure its link to another one."""

    address: Annotated[str, Field(max_length=300)]
    budget_s: Annotated[float, Field(gt=0, le=600)]


class LinkEvent(Message):
    """Sent while a link is measured, and at the end, with what was found."""

    state: Literal["measuring", "done"]
    found: dict[str, Any] | None = None


_settings: TypeAdapter[RunSettings] = TypeAdapter(RunSettings)
_sampling: TypeAdapter[Sampling] = TypeAdapter(Sampling)
_profile: TypeAdapter[Profile] = TypeAdapter(Profile)
_measurement: TypeAdapter[Measurement] = TypeAdapter(Measurement)
_detection: TypeAdapter[Detection] = TypeAdapter(Detection)
_reasons: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])
_rows: TypeAdapter[list[tuple[float, ...]]] = TypeAdapter(list[tuple[float, ...]])
_groups: TypeAdapter[list[tuple[str, ...]]] = TypeAdapter(list[tuple[str, ...]])

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Message)


def settings_to_plain(settings: RunSettings) -> dict[str, Any]:
    """For `Job.settings`, without what earlier agents do not know, where it is as by default."""
    plain = _plain(_settings, settings)
    for name in ("precision", "engine"):
        if getattr(settings, name) == getattr(RunSettings, name):
            del plain[name]
    return plain


def sampling_to_plain(sampling: Sampling) -> dict[str, Any]:
    """For `Job.sampling`."""
    return _plain(_sampling, sampling)


def settings_of(job: Job) -> RunSettings:
    """What a job is to be run with.

    Raises:
        RequestError: it is nonsense, or of another version.
    """
    settings = _exactly(_settings, job.settings, "run settings")
    if not 1 <= settings.threads <= 1024:
        raise RequestError(f"{settings.threads} threads are not from 1 to 1024")
    return settings


def sampling_of(job: Job) -> Sampling:
    """How densely a job is to be measured.

    Raises:
        RequestError: it is nonsense, or of another version.
    """
    sampling = _exactly(_sampling, job.sampling, "sampling")
    for name, value, most in (
        ("repeats", sampling.repeats, 100_000),
        ("budget_s", sampling.budget_s, 3600),
        ("pause_s", sampling.pause_s, 60),
    ):
        if not 0 <= value <= most:
            raise RequestError(f"{name} {value} of the sampling is not from 0 to {most}")
    return sampling


def answer_to_plain(value: Any) -> dict[str, Any]:
    """For `JobEvent.answer`."""
    adapters: tuple[tuple[type, TypeAdapter[Any]], ...] = (
        (Detection, _detection),
        (Profile, _profile),
        (Measurement, _measurement),
    )
    for kind, adapter in adapters:
        if isinstance(value, kind):
            return _plain(adapter, value)
    return {"value": value}


def read_detection(answer: dict[str, Any]) -> Detection:
    """What a job of kind ``detect`` found.

    Raises:
        RequestError: it is malformed.
    """
    found = _of(_detection, answer)
    return Detection(
        found.available, printable(found.reason), printable(found.version),
        printable(found.fingerprint),
    )  # fmt: skip


def read_unsupported(answer: dict[str, Any], nodes: Iterable[str]) -> dict[str, str]:
    """What a job of kind ``unsupported`` found.

    Raises:
        RequestError: it speaks of nodes that the model does not have.
    """
    found = _of(_reasons, answer.get("value"))
    _check_nodes(found, set(nodes))
    return {name: printable(reason) for name, reason in found.items()}


def read_groups(answer: dict[str, Any], nodes: Iterable[str]) -> list[tuple[str, ...]]:
    """What a job of kind ``fused-groups`` found.

    Raises:
        RequestError: a node is unknown, or in two groups.
    """
    groups = _of(_groups, answer.get("value"))
    members = [name for group in groups for name in group]
    _check_nodes(members, set(nodes))
    if len(set(members)) != len(members):
        raise RequestError("it says that one node runs in two kernels")
    return [group for group in groups if len(group) > 1]


def read_profile(answer: dict[str, Any], nodes: Iterable[str]) -> Profile:
    """What a job of kind ``profile`` measured.

    Raises:
        RequestError: a node is unknown, or times are none.
    """
    profile = _of(_profile, answer)
    _check_nodes(profile.op_s, set(nodes))
    _check_times(profile.whole_s, "the whole model")
    if not profile.whole_s:
        raise RequestError("it measured no run of the whole model")
    for op, samples_s in profile.op_s.items():
        _check_times(samples_s, f"op {op!r}")
        if len(samples_s) < len(profile.whole_s):
            raise RequestError(f"it has fewer times of op {op!r} than of the whole model")
    return profile


def read_measurement(answer: dict[str, Any]) -> Measurement:
    """What a job of kind ``run-times`` measured.

    Raises:
        RequestError: times are none.
    """
    measurement = _of(_measurement, answer)
    _check_times(measurement.samples_s, "the segment")
    if not measurement.samples_s:
        raise RequestError("it measured no run of the segment")
    return measurement


def read_rows(answer: dict[str, Any], count: int) -> list[tuple[float, ...]]:
    """What a job of kind ``interleaved`` measured, a row for each of ``count`` models.

    Raises:
        RequestError: rows are missing, or times are none.
    """
    rows = _of(_rows, answer.get("value"))
    if len(rows) != count or len({len(row) for row in rows}) > 1 or not all(rows):
        raise RequestError(f"it did not measure {count} models in turn")
    for row in rows:
        _check_times(row, "a segment")
    return rows


def read_builders(answer: dict[str, Any]) -> Builders:
    """What a job of kind ``builders`` found.

    Raises:
        RequestError: it is malformed.
    """
    found = _model(Builders, answer)
    for gpu in found.gpus:
        for text in (gpu.version, gpu.platform, gpu.name):
            if text != printable(text, 64):
                raise RequestError(f"it has a GPU with the name or version {printable(text, 80)!r}")
    return found


def read_built(answer: dict[str, Any], wanted: engine.EngineKey) -> BuiltEngine:
    """What a job of kind ``build`` made.

    Args:
        wanted: key of the engine that was asked for.

    Raises:
        RequestError: it is malformed, or another engine than ``wanted``.
    """
    found = _model(BuiltEngine, answer)
    if found.refused:
        return BuiltEngine(refused=printable(found.refused))
    if found.key is None or found.sha256 is None or not found.size_bytes:
        raise RequestError("it says neither what it built nor why it did not")
    if found.key != wanted:
        raise RequestError("it built another engine than it was asked for")
    return found.model_copy(update={"log": [printable(line, 200) for line in found.log]})


def printable(text: str, most: int = 600) -> str:
    """Text of somebody else as it may stand in a sentence: one line, no control characters."""
    kept = "".join(c if c.isprintable() else " " for c in text[: 2 * most])
    line = " ".join(kept.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _check_nodes(names: Iterable[str], nodes: set[str]) -> None:
    for name in names:
        if name not in nodes:
            raise RequestError(f"it speaks of node {printable(name, 80)!r}, which is not there")


def _check_times(samples_s: tuple[float, ...], what: str) -> None:
    if len(samples_s) > _MOST_SAMPLES:
        raise RequestError(f"it has {len(samples_s)} times of {what}")
    for value in samples_s:
        if not (math.isfinite(value) and 0 <= value <= _LONGEST_TIME_S):
            raise RequestError(f"it says that {what} took {value} s")


def _plain(adapter: TypeAdapter[Any], value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = adapter.dump_python(value, mode="json")
    return plain


def _model(kind: type[Answer], plain: Any) -> Answer:
    return kind.read(json.dumps(plain).encode())


def _of(adapter: TypeAdapter[T], plain: Any) -> T:
    try:
        return adapter.validate_json(json.dumps(plain))
    except (ValidationError, RecursionError, ValueError) as error:
        raise RequestError(f"a message is malformed: {_first(error)}") from error


def _exactly(adapter: TypeAdapter[T], plain: dict[str, Any], what: str) -> T:
    """As `_of`, but a key that is unknown here would measure something else than was asked."""
    value = _of(adapter, plain)
    strange = set(plain) - set(_plain(adapter, value))
    if strange:
        raise RequestError(
            f"the {what} have {printable(sorted(strange)[0], 80)!r}, which this version of partc "
            "does not know; install the same version on both machines"
        )
    return value


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        return printable(f"{where}: {detail['msg']}" if where else detail["msg"], 300)
    return printable(f"{type(error).__name__}: {error}", 300)
