"""Measures on a node through its agent, with the same results as on the node itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from partc.agent.link import LinkFound
from partc.agent.messages import (
    Feed,
    Job,
    JobEvent,
    Kind,
    NodeDescription,
    Subject,
    Terms,
    printable,
    read_detection,
    read_groups,
    read_measurement,
    read_profile,
    read_rows,
    read_unsupported,
    sampling_to_plain,
    settings_to_plain,
)
from partc.agent.packing import pack
from partc.agent.probing import link_of
from partc.agent.remembered import REMEMBERED_KINDS, NodeMemory, Remembered, question
from partc.agent.terms import measure_terms
from partc.agent.wire.client import AgentClient, UnreachableError
from partc.errors import MissingBackendError, RequestError, TargetError
from partc.ir.codec_table import CodecFactor
from partc.ir.cost import MessageCost
from partc.ir.topology import Topology
from partc.measure.sampling import Measurement
from partc.measure.store import default_path
from partc.runtime.checking import dtype_name
from partc.runtime.credentials import Credentials, find_credentials
from partc.runtime.wire.datatypes import datatype_of, to_raw
from partc.targets.absent import AbsentMeter
from partc.targets.meter import Job as ModelAndFeeds
from partc.targets.meter import Meter
from partc.targets.protocol import Array, Detection, Profile, RunSettings, Sampling
from partc.targets.registry import Target, load_target

T = TypeVar("T")


class AgentMeter:
    """Measures one backend of one node.

    Attributes:
        node: what the node was when the meter was made.
        notice: what the user should know; empty if nothing.
        remembered: takes down what the node says of models; nothing does if None.
    """

    def __init__(
        self, client: AgentClient, backend: str, provider: str = "", notice: str = ""
    ) -> None:
        self._client = client
        self._backend = backend
        self._provider = provider
        self._detected: Detection | None = None
        self.node: NodeDescription = client.describe()
        self.notice = notice
        self.remembered: Remembered | None = None

    @property
    def backend_name(self) -> str:
        """Of the backend that it measures."""
        return self._backend

    @property
    def where(self) -> str:
        """Through which agent."""
        return _where(self._client.address)

    def detect(self) -> Detection:
        """Whether the backend works there.

        Raises:
            TargetError: the node cannot be asked.
        """
        if self._detected is None and not self._provider:
            # An agent looks at its backends when it starts.
            for state in self.node.backends:
                if state.name == self._backend:
                    self._detected = read_detection(state.model_dump(exclude={"name"}))
        if self._detected is None:
            job = Job(kind="detect", backend=self._backend, provider=self._provider)
            event = self._client.measure(job)
            self._detected = self._read(lambda: read_detection(event.answer or {}))
        return self._detected

    def unsupported(self, model: onnx.ModelProto) -> dict[str, str]:
        """Node name -> why the backend cannot run it."""
        event = self._ask("unsupported", [(model, {})])
        return self._read(lambda: read_unsupported(event.answer or {}, _node_names(model)))

    def fused_groups(self, model: onnx.ModelProto, settings: RunSettings) -> list[tuple[str, ...]]:
        """Groups of two or more nodes that the backend runs as one kernel, by node name."""
        event = self._ask("fused-groups", [(model, {})], settings)
        return self._read(lambda: read_groups(event.answer or {}, _node_names(model)))

    def profile(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Profile:
        """Kernel times per op, and times of the whole model."""
        event = self._ask("profile", [(model, feeds)], settings, sampling)
        return self._read(lambda: read_profile(event.answer or {}, _node_names(model)))

    def run_times(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> tuple[float, ...]:
        """Seconds of each run of a segment, as the runtime runs it."""
        return self.measure_runs(model, feeds, settings, sampling).samples_s

    def interleaved_times(
        self, jobs: Sequence[ModelAndFeeds], settings: RunSettings, sampling: Sampling
    ) -> list[tuple[float, ...]]:
        """As `run_times` of each of several models, a run of each in turn."""
        event = self._ask("interleaved", jobs, settings, sampling)
        return self._read(lambda: read_rows(event.answer or {}, len(jobs)))

    def measure_runs(
        self,
        model: onnx.ModelProto,
        feeds: Mapping[str, Array],
        settings: RunSettings,
        sampling: Sampling,
    ) -> Measurement:
        """As `run_times`, and whether they settled and what went on on the node."""
        event = self._ask("run-times", [(model, feeds)], settings, sampling)
        return self._read(lambda: read_measurement(event.answer or {}))

    def terms(self) -> Terms:
        """What the node does with each byte of a message, and of each codec."""
        return self._client.terms()

    def codec_factors(self, codecs: Sequence[str]) -> Mapping[str, CodecFactor]:
        """Codec -> how many times longer it takes there than here, on the same data."""
        there, here = self.terms(), measure_terms(tuple(codecs))
        return {
            codec: CodecFactor(
                _ratio(there.encode_s_per_byte[codec], here.encode_s_per_byte[codec]),
                _ratio(there.decode_s_per_byte[codec], here.decode_s_per_byte[codec]),
            )
            for codec in codecs
            if codec in there.encode_s_per_byte and codec in there.decode_s_per_byte
        }

    @property
    def address(self) -> str:
        """Of the agent."""
        return self._client.address

    def link_to(self, address: str, budget_s: float) -> LinkFound:
        """The link from the node to that of another agent.

        Raises:
            TargetError: either cannot be asked.
        """
        return link_of(self._client, address, budget_s)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def _ask(
        self,
        kind: Kind,
        subjects: Sequence[ModelAndFeeds],
        settings: RunSettings | None = None,
        sampling: Sampling | None = None,
    ) -> JobEvent:
        pieces: dict[str, bytes | Path] = {}
        job = Job(
            kind=kind,
            backend=self._backend,
            provider=self._provider,
            subjects=[_subject(model, feeds, pieces) for model, feeds in subjects],
            settings=settings_to_plain(settings) if settings else {},
            sampling=sampling_to_plain(sampling) if sampling else {},
        )
        self._client.send(pieces)
        event = self._client.measure(job)
        self._check_fingerprint(event)
        if kind in REMEMBERED_KINDS and self.remembered is not None and event.answer:
            graph = job.subjects[0].graph
            asked = question(
                self._client.address, event.fingerprint, kind, graph, dict(job.settings)
            )
            self.remembered.keep(asked, event.answer)
        return event

    def _check_fingerprint(self, event: JobEvent) -> None:
        if self._detected is not None and event.fingerprint != self._detected.fingerprint:
            before, self._detected = self._detected.fingerprint, None
            raise TargetError(
                f"{self._client.name} is not what it was a moment ago: {before} then, "
                f"{event.fingerprint[:300]!r} now; it was restarted, or its power mode changed, so "
                "run the command again",
                host=self._client.host or None,
            )

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except RequestError as error:
            raise TargetError(
                f"{self._client.name} gives no usable answer: {error}",
                host=self._client.host or None,
            ) from error


def agent_meters(
    topology: Topology,
    credentials: Credentials | None,
    hosts: tuple[str, ...] | None = None,
    known: Path | None = None,
    absent_will_do: bool = False,
) -> Mapping[str, AgentMeter | AbsentMeter]:
    """Host -> what measures there, for every host that has an agent.

    All agents are asked at once for what they are, so that one that is missing is found before
    anything is measured.

    Args:
        hosts: only these.
        known: file in which the nodes' fingerprints are kept, to notice when they change; beside
            the user's costs if None.
        absent_will_do: an agent that cannot be reached now, but was before, gives a meter that
            knows what its node was then.

    Raises:
        TargetError: an agent cannot be asked.
        MissingBackendError: a node has not the backend of its host's target.
        UsageError: credentials are needed.
    """
    remembered = Remembered(known or default_path().with_name("agents.json"))
    clients: dict[str, AgentClient] = {}
    meters: dict[str, AgentMeter | AbsentMeter] = {}
    for name, host in topology.hosts.items():
        if host.agent is None or (hosts is not None and name not in hosts):
            continue
        if host.agent not in clients:
            clients[host.agent] = AgentClient(host.agent, credentials, name)
        target = load_target(host.target)
        try:
            meters[name] = AgentMeter(clients[host.agent], target.backend, target.provider)
        except UnreachableError:
            last = remembered.fingerprint(host.agent, target.backend, target.provider)
            if not absent_will_do or not last:
                raise
            meters[name] = _absent(remembered, host.agent, target, last)
    reached = {topology.hosts[n].agent for n, m in meters.items() if isinstance(m, AgentMeter)}
    for address, client in clients.items():
        if address not in reached:
            client.close()
    for name, meter in meters.items():
        if isinstance(meter, AbsentMeter):
            continue
        target = load_target(topology.hosts[name].target)
        client = clients[str(topology.hosts[name].agent)]
        detected = meter.detect()
        if not detected.available:
            raise MissingBackendError(
                f"{client.name} cannot measure target {target.name!r}: {detected.reason}", host=name
            )
        _check_hardware(client, target, meter.node, name)
        meter.notice = remembered.notice(
            client.name, client.address, target.backend, target.provider, detected
        )
        meter.remembered = remembered
    remembered.save()
    return meters


def _absent(remembered: Remembered, address: str, target: Target, last: str) -> AbsentMeter:
    return AbsentMeter(
        backend_name=target.backend,
        where=_where(address),
        reason=f"the agent at {address} cannot be reached",
        fingerprint=last,
        memory=NodeMemory(remembered, address, last),
    )


def _where(address: str) -> str:
    return f"the node of the agent at {address}"


@contextmanager
def measuring_agents(
    topology: Topology,
    credentials: Path | None = None,
    hosts: tuple[str, ...] | None = None,
    absent_will_do: bool = False,
) -> Iterator[Mapping[str, AgentMeter | AbsentMeter]]:
    """As `agent_meters`, connected until the context ends.

    Args:
        credentials: a folder; see `partc.runtime.credentials.find_credentials`.
    """
    asked = {
        name: host.agent
        for name, host in topology.hosts.items()
        if host.agent is not None and (hosts is None or name in hosts)
    }
    if not asked:
        yield {}
        return
    found = find_credentials(credentials, asked.values())
    meters = agent_meters(topology, found, tuple(asked), absent_will_do=absent_will_do)
    try:
        yield meters
    finally:
        for meter in meters.values():
            if isinstance(meter, AgentMeter):
                meter.close()


def notices(meters: Mapping[str, Meter]) -> tuple[str, ...]:
    """What the user should know of the agents that are asked, each sentence once."""
    found = [meter.notice for meter in meters.values() if isinstance(meter, AgentMeter)]
    return tuple(dict.fromkeys(notice for notice in found if notice))


def _check_hardware(client: AgentClient, target: Target, node: NodeDescription, host: str) -> None:
    wanted = target.hardware.recognised_by
    names = [node.processor.name, node.board, *(gpu.name for gpu in node.gpus)]
    if target.hardware.typical or not wanted:
        return
    if not any(text.casefold() in name.casefold() for text in wanted for name in names):
        found = printable(", ".join(filter(None, names))) or "a machine that tells no name"
        raise TargetError(
            f"{client.name} is on {found}, and target {target.name!r} is "
            f"{target.hardware.product or wanted[0]}; correct the target or the agent's address",
            host=host,
        )


def message_cost(meters: Mapping[str, Meter]) -> MessageCost:
    """What a message costs where every link says its fixed cost, as ``partc link`` measures it.

    Such a link's bandwidth is without what the ends do with a byte, so that comes on top: of the
    slowest sender and the slowest reader among the nodes, and this machine, which may be one end.
    """
    terms = [meter.terms() for meter in meters.values() if isinstance(meter, AgentMeter)]
    here = measure_terms(codecs=())
    write = max((here.write_s_per_byte, *(each.write_s_per_byte for each in terms)))
    read = max((here.read_s_per_byte, *(each.read_s_per_byte for each in terms)))
    return MessageCost(fixed_s=0.0, s_per_byte=write + read, provenance="measured")


def _subject(
    model: onnx.ModelProto, feeds: Mapping[str, Array], pieces: dict[str, bytes | Path]
) -> Subject:
    """How an agent is told of a model; what has to be sent for that is added to ``pieces``."""
    packed = pack(model)
    pieces.update(packed.pieces)
    wanted = {value.name for value in model.graph.input}
    entries: list[Feed] = []
    for name, array in feeds.items():
        if name not in wanted:
            continue
        given = np.asarray(array)
        raw = bytes(to_raw(given))
        digest = hashlib.sha256(raw).hexdigest()
        pieces[digest] = raw
        datatype = datatype_of(dtype_name(given))
        entries.append(Feed(name=name, datatype=datatype, shape=list(given.shape), sha256=digest))
    return Subject(graph=packed.digest, feeds=entries)


def _ratio(there_s: float, here_s: float) -> float:
    """1 where nothing can be said, since here it took no time."""
    return there_s / here_s if here_s > 0 else 1.0


def _node_names(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]
