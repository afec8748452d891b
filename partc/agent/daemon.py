"""The agent: one process that describes its node, measures on it, takes bundles and serves them."""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from platformdirs import user_state_path

from partc.agent.blobs import BlobStore
from partc.agent.deployment import Deployments
from partc.agent.measuring import HEARTBEAT_S, BusyError, Measurer
from partc.agent.messages import (
    PROTOCOL,
    BackendState,
    BundleId,
    Digests,
    FileHeader,
    FileName,
    Job,
    JobEvent,
    LinkEvent,
    LinkRequest,
    NodeDescription,
    Offer,
    OfferAnswer,
    PrepareEvent,
    ServedBundle,
    Terms,
    read_detection,
)
from partc.agent.node import read_node
from partc.agent.serving import ServedVersions
from partc.errors import PartcError, UsageError
from partc.ir.address import is_loopback, split_address
from partc.measure.power_mode import in_mode, power_mode
from partc.measure.statistics import now
from partc.runtime.credentials import Credentials, find_credentials
from partc.runtime.engine_segments import EngineTerms
from partc.targets.registry import backend_names

GRACE_S = 5.0
LARGEST_MESSAGE_BYTES = 512 << 20


@dataclass(frozen=True)
class AgentOptions:
    """How much an agent does.

    Attributes:
        while_serving: measure even while requests are being served.
        largest_bundle_bytes: of one host's part of a bundle.
        cache_bytes: of files that were sent for measurements and bundles.
        allow_engine_code: run machine code inside engines of bundles; see `EngineTerms`.
    """

    while_serving: bool = False
    largest_bundle_bytes: int = 16 << 30
    cache_bytes: int = 8 << 30
    allow_engine_code: bool = False


class Agent:
    """Ready and listening from construction until `close`.

    Args:
        listen: ``HOST:PORT``; port 0 takes a free one.
        folder: where the agent keeps files between two starts; it may have one agent.
        credentials: by which callers and the agent know each other; needed unless only this
            machine reaches ``listen``.

    Attributes:
        address: where it listens.
        notice: what could not be taken up again; empty if all could.

    Raises:
        UsageError: the address would let anybody in, or the folder is in use.
    """

    def __init__(
        self,
        listen: str,
        folder: Path,
        credentials: Credentials | None = None,
        options: AgentOptions | None = None,
    ) -> None:
        from partc.agent.wire.service import AgentService
        from partc.runtime.wire.server import GrpcServer

        options = options or AgentOptions()
        shown = _checked(listen, credentials)
        self._credentials = credentials
        self._lock_file = _locked(folder)
        working = folder / "working"
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        self._working = working
        self._blobs = BlobStore(folder / "files", options.cache_bytes)
        self._versions = ServedVersions(lambda version: self._deployments.forget(version))
        self._measurer = Measurer(
            working,
            self._blobs,
            folder / "files",
            lambda: self._versions.requests_seen,
            options.while_serving,
        )
        self._deployments = Deployments(
            folder / "bundles",
            self._blobs,
            self._versions,
            largest_bytes=options.largest_bundle_bytes,
            largest_message_bytes=LARGEST_MESSAGE_BYTES,
            credentials=lambda: credentials,
            engines=EngineTerms(allow_code=options.allow_engine_code),
        )
        self._since = now()
        self._terms: Terms | None = None
        try:
            self._backends = list(self._detected())
            self._measurer.end()
            self.notice = self._deployments.resume()
            self._server = GrpcServer(
                self._versions,
                "agent",
                listen,
                max_message_bytes=LARGEST_MESSAGE_BYTES,
                credentials=shown,
                handlers=(AgentService(self).handler(),),
                ready=self._versions.current is not None,
            )
        except BaseException:
            self._release()
            raise
        self.address = self._server.address

    def describe(self) -> NodeDescription:
        """The node, now."""
        from partc.runtime.wire.service import partc_version

        current = self._versions.current
        serving = None
        if current is not None:
            serving = ServedBundle(
                host=current.host.plan.host,
                model=current.bundle.manifest.model.name,
                identity=current.identity,
                since=self._since,
            )
        return NodeDescription(
            protocol=PROTOCOL,
            partc_version=partc_version(),
            **vars(read_node()),
            backends=[self._with_power_mode(state) for state in self._backends],
            serving=serving,
            measuring=self._measurer.doing,
        )

    def terms(self) -> Terms:
        """What the node does with the bytes of messages, measured when first asked for."""
        from partc.agent.terms import measure_terms

        if self._terms is None:
            with self._measurer.alone("measuring what messages cost"):
                self._terms = Terms(**asdict(measure_terms()))
        return self._terms

    def missing(self, digests: Digests) -> Digests:
        """Files that were not sent yet."""
        return Digests(digests=self._blobs.missing(digests.digests))

    def receive(self, header: FileHeader, next_chunk: Callable[[], bytes]) -> None:
        """Take in a file."""
        self._blobs.receive(header.sha256, header.size_bytes, next_chunk)

    def carry_out(self, job: Job, is_wanted: Callable[[], bool]) -> Iterator[JobEvent]:
        """Measure something."""
        for event in self._measurer.carry_out(job, is_wanted):
            if event.state == "measuring":
                yield event
                continue
            fingerprint = _fingerprint(event.fingerprint)
            answer = dict(event.answer or {})
            if job.kind == "detect":
                answer["fingerprint"] = fingerprint
            yield event.model_copy(update={"answer": answer, "fingerprint": fingerprint})

    def engine(self, name: FileName) -> Path:
        """Where an engine lies that was built."""
        return self._measurer.engine(name.sha256)

    def offer(self, offer: Offer) -> OfferAnswer:
        """Look at a bundle."""
        return self._deployments.offer(offer)

    def prepare(self, bundle: BundleId) -> Iterator[PrepareEvent]:
        """Load it: in a thread, since engines may be built for minutes."""
        said: list[str] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                said.extend(self._deployments.prepare(bundle.id))
            except BaseException as error:
                failure.append(error)

        with self._measurer.alone("loading a bundle", is_measured=False):
            thread = threading.Thread(target=work, name="partc-prepare")
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(HEARTBEAT_S)
                    if thread.is_alive():
                        yield PrepareEvent(state="preparing")
            finally:
                thread.join()
        if failure:
            raise failure[0]
        yield PrepareEvent(state="done", said=said)

    def activate(self, bundle: BundleId) -> None:
        """Serve it."""
        self._deployments.activate(bundle.id)
        self._since = now()
        self._server.set_ready(True)

    def measure_link(
        self, request: LinkRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[LinkEvent]:
        """Measure the link to another agent, which this node's credentials must be good for."""
        from partc.agent.probing import link_to

        found: list[LinkEvent] = []
        failure: list[BaseException] = []
        over = threading.Event()

        def work() -> None:
            try:
                measured = link_to(
                    request.address,
                    self._credentials or find_credentials(None, (request.address,)),
                    request.budget_s,
                    is_wanted=lambda: is_wanted() and not over.is_set(),
                )
                found.append(LinkEvent(state="done", found=asdict(measured)))
            except BaseException as error:
                failure.append(error)

        with self._measurer.alone(f"measuring the link to {request.address}"):
            thread = threading.Thread(target=work, name="partc-link")
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(HEARTBEAT_S)
                    if thread.is_alive():
                        yield LinkEvent(state="measuring")
            finally:
                over.set()
                thread.join()
        if failure:
            raise failure[0]
        yield found[0]

    def close(self, grace_s: float = GRACE_S) -> None:
        """Let requests under way finish, then stop."""
        self._measurer.end()
        self._server.stop(grace_s)
        self._release()

    def _detected(self) -> Iterator[BackendState]:
        """Each backend, looked at in the process that measures: to look may crash."""
        for name in backend_names():
            try:
                event = _last(self._measurer.carry_out(Job(kind="detect", backend=name), _always))
                found = read_detection(event.answer or {})
                yield BackendState(name=name, **asdict(found))
            except BusyError:
                raise
            except PartcError as error:
                yield BackendState(
                    name=name, available=False, reason=str(error), version="", fingerprint=""
                )

    def _with_power_mode(self, state: BackendState) -> BackendState:
        if not state.fingerprint:
            return state
        return state.model_copy(update={"fingerprint": _fingerprint(state.fingerprint)})

    def _release(self) -> None:
        self._measurer.end()
        self._deployments.close()
        self._versions.close()
        shutil.rmtree(self._working, ignore_errors=True)
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def default_folder() -> Path:
    """Where an agent keeps its files when it is told nothing else."""
    return user_state_path("partc") / "agent"


def _always() -> bool:
    return True


def _last(events: Iterator[JobEvent]) -> JobEvent:
    *_, last = events
    return last


def _fingerprint(found: str) -> str:
    """Costs hold in one power mode alone."""
    return in_mode(found, power_mode())


def _checked(listen: str, credentials: Credentials | None) -> Credentials | None:
    """The credentials to listen with."""
    try:
        split_address(listen)
    except ValueError as error:
        raise UsageError(str(error)) from error
    shown = credentials if credentials is not None and credentials.covers(listen) else None
    if shown is None and not is_loopback(listen):
        raise UsageError(
            f"the agent does not listen on {listen!r} without credentials, since whoever may "
            "deploy may run code; make some with partc agent --init, or listen on 127.0.0.1"
        )
    if shown is not None:
        shown.can_serve()
    return shown


def _locked(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
    except OSError as error:
        raise UsageError(
            f"the agent cannot keep files in {folder}: {error.strerror or error}; name another "
            "folder with --state"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(
            f"another agent keeps its files in {folder}; stop it, or name another folder with "
            "--state"
        ) from None
    return file
