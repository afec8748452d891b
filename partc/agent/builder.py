"""Builds the engines of hosts on their own nodes, through their agents, while a model compiles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from partc.agent.messages import EngineJob, Job, SourceFile, printable, read_builders, read_built
from partc.agent.wire.client import AgentClient
from partc.errors import RequestError, TargetError, UnbuildableError
from partc.ir.engine import EngineRecipe, Flavour, Gpu, engine_key, source_digest
from partc.ir.topology import Topology
from partc.runtime.credentials import find_credentials
from partc.targets.engines import EngineSource, Progress, engine_backend
from partc.targets.registry import load_target


class AgentBuilder:
    """Has engines of one host built on its node.

    Attributes:
        notice: why the node builds engines and cannot run them, and so measures nothing; empty
            where it can, or nobody knows.
    """

    def __init__(self, client: AgentClient, backend: str, flavour: Flavour) -> None:
        self._client = client
        self._backend = backend
        self._flavour = flavour
        self.notice = ""

    @property
    def flavour(self) -> Flavour:
        """The format of its engines."""
        return self._flavour

    @property
    def where(self) -> str:
        """Through which agent."""
        return self._client.name

    def look(self) -> None:
        """Find out whether the node runs what it builds. A node that cannot be asked now says so
        when engines are to be built."""
        try:
            states = {each.name: each for each in self._client.describe().backends}
            state = states.get(self._backend)
            if state is None or state.available or not self.builders(None)[0]:
                return
        except TargetError:
            return
        self.notice = (
            f"{self.where} builds its engines and measures nothing, since it cannot run them: "
            f"{printable(state.reason)}"
        )

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """GPUs that engines can be built for on the node; and why there are none, or not more.

        Raises:
            TargetError: the node cannot be asked.
        """
        self._client.describe()  # says best what is wrong, where it cannot be reached
        asked = EngineJob(capabilities=capabilities)
        event = self._client.measure(Job(kind="builders", backend=self._backend, engine=asked))
        try:
            found = read_builders(event.answer or {})
        except RequestError as error:
            raise self._nonsense(error) from error
        if any(gpu.flavour != self._flavour for gpu in found.gpus):
            raise self._nonsense("it builds engines of another flavour")
        if capabilities and any(g.compute_capability not in capabilities for g in found.gpus):
            raise self._nonsense("it builds for a GPU that nobody asked for")
        reason = printable(found.reason)
        return tuple(found.gpus), f"on the node of {self.where}: {reason}" if reason else ""

    def build(
        self,
        source: EngineSource,
        recipe: EngineRecipe,
        gpu: Gpu,
        output: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Send the segment, have it built, and fetch the engine.

        Raises:
            UnbuildableError: the builder there refuses the segment.
            TargetError: it could not be built there for another reason, or what came back is not
                what was asked for.
            OSError: a file cannot be read or written.
        """
        digests = [_sha256(path) for path in source.files]
        named = zip(source.files, digests, strict=True)
        asked = EngineJob(
            files=[SourceFile(name=path.name, sha256=digest) for path, digest in named],
            recipe=recipe,
            gpu=gpu,
        )
        self._client.forget_sent()
        self._client.send(dict(zip(digests, source.files, strict=True)))
        event = self._client.measure(
            Job(kind="build", backend=self._backend, engine=asked), progress
        )
        try:
            built = read_built(event.answer or {}, engine_key(recipe, source_digest(digests), gpu))
        except RequestError as error:
            raise self._nonsense(error) from error
        if built.refused:
            raise UnbuildableError(built.refused, host=self._client.host or None)
        assert built.sha256 is not None
        if progress is not None:
            progress("fetching the engine", None)
        self._client.fetch(built.sha256, built.size_bytes, output)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def _nonsense(self, what: object) -> TargetError:
        return TargetError(
            f"{self.where} gives no usable answer: {what}", host=self._client.host or None
        )


@contextmanager
def building_agents(
    topology: Topology, credentials: Path | None = None
) -> Iterator[Mapping[str, AgentBuilder]]:
    """Host -> what builds there, for every host with engines and an agent.

    Args:
        credentials: a folder; see `partc.runtime.credentials.find_credentials`.
    """
    builders: dict[str, AgentBuilder] = {}
    try:
        for name, host in topology.hosts.items():
            backend = engine_backend(load_target(host.target).backend)
            if host.agent is not None and backend is not None:
                found = find_credentials(credentials, (host.agent,))
                client = AgentClient(host.agent, found, name)
                builders[name] = AgentBuilder(client, backend.name, backend.flavour)
                builders[name].look()
        yield builders
    finally:
        for builder in builders.values():
            builder.close()


def measured_elsewhere(topology: Topology, builders: Mapping[str, AgentBuilder]) -> Topology:
    """The topology without the agents that build engines and cannot run them."""
    hosts = {
        name: host.model_copy(update={"agent": None})
        if name in builders and builders[name].notice
        else host
        for name, host in topology.hosts.items()
    }
    return topology.model_copy(update={"hosts": hosts})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
