"""Segments run here one after the other, each as its host will run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self, TypeVar

from partc.codecs import NONE, decode, encode
from partc.errors import PassError, TargetError, VerificationError
from partc.ir.plan import Transfer
from partc.ir.program import Array
from partc.ir.segment import Segment
from partc.ir.topology import Topology
from partc.targets.loading import open_model
from partc.targets.protocol import Runner
from partc.targets.reference import executor_here
from partc.targets.registry import load_target
from partc.targets.settings import run_settings


class SegmentRuns:
    """Loads each segment once, however many plans it is in; a context manager.

    Args:
        at_precision: as the hosts compute them, and not all in the precision of the model.

    Attributes:
        stood_in: hosts whose segments ran on the reference backend -> why.
    """

    def __init__(self, topology: Topology, *, at_precision: bool = False) -> None:
        self._topology = topology
        self._at_precision = at_precision
        self.stood_in: dict[str, str] = {}
        self._runners: dict[str, Runner] = {}
        self._stack = ExitStack()

    def one_by_one(
        self, segments: Iterable[Segment], feeds: Mapping[str, Array]
    ) -> dict[str, Array]:
        """All tensors that leave a segment, and the inputs; nothing is encoded on the way.

        Raises:
            VerificationError: a segment does not run.
        """
        held: dict[str, Array] = dict(feeds)
        for segment in segments:
            held.update(self._run(segment, held))
        return held

    def with_codecs(
        self,
        segments: Iterable[Segment],
        transfers: Iterable[Transfer],
        feeds: Mapping[str, Array],
        outputs: Iterable[str],
    ) -> dict[str, Array]:
        """The outputs where they are wanted, with every transfer encoded and decoded."""
        return carried(self._run, segments, transfers, feeds, outputs, self._topology)

    def _run(self, segment: Segment, given: Mapping[str, Array]) -> dict[str, Array]:
        if segment.model is None:
            raise PassError(f"segment {segment.id!r} has no model", pass_name="verify")
        try:
            if segment.id not in self._runners:
                host = self._topology.hosts[segment.host]
                target = load_target(host.target)
                executor = executor_here(target.backend, run_settings(host, target))
                if executor.instead:
                    self.stood_in[segment.host] = executor.instead
                model = segment.model
                if self._at_precision:
                    model = segment.emulated or segment.deployed or model
                self._runners[segment.id] = self._stack.enter_context(
                    open_model(model, executor.backend, executor.settings)
                )
            return self._runners[segment.id].run(given)
        except TargetError as error:
            raise VerificationError(
                f"segment {segment.id!r} does not run: {error}", host=segment.host
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


class Part(Protocol):
    """A segment, of a program or of a manifest."""

    @property
    def host(self) -> str:
        """Where it runs."""

    @property
    def inputs(self) -> Sequence[str]:
        """The tensors that it reads."""


class Moved(Protocol):
    """A transfer, of a plan or of a manifest."""

    @property
    def tensor(self) -> str:
        """What moves."""

    @property
    def sender(self) -> str:
        """From where."""

    @property
    def receiver(self) -> str:
        """To where."""

    @property
    def codec(self) -> str:
        """How."""


AnyPart = TypeVar("AnyPart", bound=Part)


def carried(
    run: Callable[[AnyPart, Mapping[str, Array]], Mapping[str, Array]],
    segments: Iterable[AnyPart],
    transfers: Iterable[Moved],
    feeds: Mapping[str, Array],
    outputs: Iterable[str],
    topology: Topology,
) -> dict[str, Array]:
    """Run segments in their order as hosts would, each with what was encoded on the way to it."""
    hosts = _Hosts(transfers)
    for name, array in feeds.items():
        hosts.put(topology.input_home(name), name, array)
    for segment in segments:
        given = {name: hosts.get(segment.host, name) for name in segment.inputs}
        for name, array in run(segment, given).items():
            hosts.put(segment.host, name, array)
    return {name: hosts.get(topology.output_home(name), name) for name in outputs}


class _Hosts:
    """Which host holds which tensor, and how the others come by it."""

    def __init__(self, transfers: Iterable[Moved]) -> None:
        self._held: dict[tuple[str, str], Array] = {}
        self._arriving = {(t.receiver, t.tensor): t for t in transfers}

    def put(self, host: str, tensor: str, array: Array) -> None:
        self._held[host, tensor] = array

    def get(self, host: str, tensor: str) -> Array:
        if (host, tensor) not in self._held:
            transfer = self._arriving.get((host, tensor))
            if transfer is None:
                raise PassError(f"no transfer brings {tensor!r} to host {host!r}", host=host)
            array = self.get(transfer.sender, tensor)
            if transfer.codec != NONE:
                data, used = encode(array, transfer.codec)
                array = decode(data, used, array.dtype.name, array.shape)
            self._held[host, tensor] = array
        return self._held[host, tensor]
