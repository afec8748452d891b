"""The host where requests start: `open_bundle`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from partc.bundle.reader import Bundle
from partc.errors import RequestError, UsageError
from partc.runtime.checking import checked_tensors
from partc.runtime.choice import CHOSEN, PlanChooser
from partc.runtime.credentials import Credentials
from partc.runtime.host import Host
from partc.runtime.segments import Fallback
from partc.runtime.transport import CallFailedError, CallTime, PushTime, SegmentTime, Transport

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Answer:
    """The outputs of a request, and how it went.

    Attributes:
        latency_s: from the call of `Deployment.request` until all outputs were there.
        segments: each segment that ran, where, and for how long.
        calls: each round trip to another host as its caller saw it, nested ones included.
        failures: one sentence for each host that failed; the answer is right all the same.
        plan: the plan that the request took; see `partc.runtime.choice`.
        avoided: one sentence for each host that the chosen plan needs and that is known to be
            down, where another plan was taken for that.
        pushes: what hosts sent each other beside those round trips.
    """

    outputs: dict[str, Array]
    latency_s: float
    segments: tuple[SegmentTime, ...]
    calls: tuple[CallTime, ...]
    failures: tuple[str, ...]
    plan: str = CHOSEN
    avoided: tuple[str, ...] = ()
    pushes: tuple[PushTime, ...] = ()

    @property
    def finished_locally(self) -> bool:
        """Whether a host failed and its caller finished the request in its place."""
        return bool(self.failures)

    @property
    def segments_s(self) -> float:
        """Seconds of all segments together."""
        return sum(segment.seconds for segment in self.segments)

    @property
    def sent_bytes(self) -> int:
        """Bytes of all messages, in both directions of all links."""
        by_calls = sum(call.sent_bytes + call.received_bytes for call in self.calls)
        return by_calls + sum(push.sent_bytes + push.received_bytes for push in self.pushes)

    def segment_s(self) -> dict[str, dict[str, float]]:
        """Seconds of each segment by host."""
        by_host: dict[str, dict[str, float]] = {}
        for segment in self.segments:
            by_host.setdefault(segment.host, {})[segment.segment] = segment.seconds
        return by_host


class Deployment:
    """An opened bundle that answers requests; a context manager, usable from several threads."""

    def __init__(self, bundle: Bundle, host: Host) -> None:
        self.bundle = bundle
        self._host = host
        self._chooser = PlanChooser(bundle.manifest)
        self._inputs = bundle.manifest.model.inputs
        self._outputs = [spec.name for spec in bundle.manifest.model.outputs]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """The model's outputs by name.

        Raises:
            RequestError: ``feeds`` are not what the model takes.
            HostUnreachableError: a host failed and its segments are not available here.
            TargetError: a segment failed.
        """
        return self.request(feeds).outputs

    @property
    def plans(self) -> tuple[str, ...]:
        """The plans that the bundle carries."""
        return self._chooser.names

    def observe(self, **conditions: float | None) -> None:
        """Say how things are now, and let each request take the plan that is best then.

        Args:
            conditions: any of bandwidth_mbit_s, rtt_s, device_slowdown, server_slowdown; see
                `partc.runtime.choice.Observation`.

        Raises:
            UsageError: the bundle carries one plan only, or a value makes no sense.
        """
        self._chooser.observe(**conditions)

    def request(self, feeds: Mapping[str, Any], plan: str | None = None) -> Answer:
        """As `run`, with times, bytes and failures.

        Args:
            plan: one of `plans`, in place of the one that conditions call for.

        Raises:
            UsageError: there is no such plan.
        """
        start_s = time.perf_counter()
        given: Any = feeds
        if not isinstance(given, Mapping):
            names = ", ".join(f"{spec.name!r}: ..." for spec in self._inputs)
            raise RequestError(
                f"inputs are given by name, such as {{{names}}}, but a {type(given).__name__} "
                "was given"
            )
        tensors = checked_tensors(feeds, self._inputs)
        choice = self._chooser.choose(self._host.health.why_down, plan)
        try:
            reply = self._host.executor.handle(choice.call.id, uuid.uuid4().hex, tensors)
        except CallFailedError as error:
            raise RequestError(
                f"the request cannot be carried out on host {self._host.plan.host!r}: "
                f"{error.reason}"
            ) from error
        outputs = {name: _own(reply.tensors[name]) for name in self._outputs}
        return Answer(
            outputs=outputs,
            latency_s=time.perf_counter() - start_s,
            segments=tuple(reply.report.segments),
            calls=tuple(reply.report.calls),
            failures=tuple(reply.report.failures),
            plan=choice.name,
            avoided=choice.avoided,
            pushes=tuple(reply.report.pushes),
        )

    def close(self) -> None:
        """Drop connections and free the segments."""
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_bundle(
    path: str | Path | Bundle,
    *,
    host: str | None = None,
    addresses: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
    verify_files: bool = True,
    fallback: Fallback = "preload",
    transport: Transport | None = None,
    credentials: Credentials | None = None,
) -> Deployment:
    """Open a bundle on the host where requests start.

    Args:
        host: must be the bundle's root host; the default.
        addresses: host -> ``HOST:PORT``, in place of the manifest's.
        deadline_s: how long to wait for another host's answer; by default ten times what was
            predicted, and at least a second.
        verify_files: check every file that is loaded against the manifest.
        fallback: whether the segments of other hosts, with which this one finishes a request
            when they fail, are loaded now, when first needed, or never.
        transport: how to reach other hosts instead of gRPC.
        credentials: for the connections that they cover; see `partc.runtime.credentials`.

    Raises:
        UsageError: an unknown host, or no address for a host that must be called.
        BundleError: the bundle, or a file that this host loads, is not usable.
        TargetError: a segment cannot be loaded here.
    """
    bundle = path if isinstance(path, Bundle) else Bundle.open(path)
    root = bundle.manifest.root
    name = host or root
    bundle.host(name)
    if name != root:
        raise UsageError(
            f"requests to bundle {bundle.path} start at host {root!r}; "
            f"use partc serve for host {name!r}"
        )
    opened = Host(
        bundle,
        name,
        addresses=addresses,
        deadline_s=deadline_s,
        fallback=fallback,
        verify_files=verify_files,
        transport=transport,
        credentials=credentials,
    )
    try:
        opened.connect()
    except BaseException:
        opened.close()
        raise
    return Deployment(bundle, opened)


def _own(array: Array) -> Array:
    """Outputs are the user's: writable, and not a view that keeps a whole message alive."""
    return array if array.flags.writeable and array.base is None else array.copy()
