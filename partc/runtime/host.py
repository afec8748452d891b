"""One host of a bundle, put together: its segments, its executor, its connections."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from partc.bundle.exchanges import pushes_of
from partc.bundle.manifest import Manifest
from partc.bundle.reader import Bundle
from partc.errors import UsageError
from partc.ir.tensor import element_bits
from partc.runtime.credentials import Credentials
from partc.runtime.engine_segments import EngineTerms
from partc.runtime.executor import Executor
from partc.runtime.health import PeerHealth
from partc.runtime.held import NO_LIMITS, HeldLimits, HeldRequests
from partc.runtime.host_plan import HostPlan
from partc.runtime.pacing import Pace
from partc.runtime.segments import Fallback, SegmentPool
from partc.runtime.transport import Transport
from partc.suggest import unknown_name

SMALLEST_MESSAGE_LIMIT_BYTES = 64 << 20
LARGEST_MESSAGE_LIMIT_BYTES = (1 << 31) - 1
LONGEST_CONNECT_S = 5.0


class Host:
    """A host that can carry out its calls.

    Args:
        addresses: where the hosts that this one calls listen; the manifest's addresses otherwise.
        transport: how to reach them instead of gRPC.
        credentials: for the connections that they cover; others are open.
        engines: on which terms engines are used.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        *,
        addresses: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        fallback: Fallback = "preload",
        verify_files: bool = True,
        transport: Transport | None = None,
        credentials: Credentials | None = None,
        engines: EngineTerms | None = None,
    ) -> None:
        if deadline_s is not None and not (deadline_s > 0 and math.isfinite(deadline_s)):
            raise UsageError(f"the deadline must be a positive number of seconds, not {deadline_s}")
        self.plan = HostPlan(bundle, name, deadline_s)
        reachable = _peer_addresses(bundle, self.plan, addresses or {}) if transport is None else {}
        self.segments = SegmentPool(
            bundle, name, fallback=fallback, verify_files=verify_files, engines=engines
        )
        self.transport = transport
        if transport is None and reachable:
            from partc.runtime.wire.client import GrpcTransport

            limit = message_limit_bytes(bundle.manifest)
            self.transport = GrpcTransport(
                reachable,
                max_message_bytes=limit,
                pace=Pace(self.plan.entry.slowdown, self.plan.entry.threads),
                credentials=credentials,
            )
        self.health = PeerHealth(self._probe)
        # The root host holds only requests under way, which its own user has made.
        limits = NO_LIMITS if name == bundle.manifest.root else HeldLimits()
        self.held = HeldRequests(_calls_together(bundle.manifest, name), limits)
        self.executor = Executor(self.plan, self.segments, self.transport, self.health, self.held)

    def _probe(self, host: str, timeout_s: float) -> str | None:
        return None if self.transport is None else self.transport.probe(host, timeout_s)

    def connect(self) -> None:
        """Reach every host that this one calls, so that the first request need not."""
        if self.transport is None:
            return
        for peer in self.plan.peers:
            timeout_s = min(self.plan.longest_deadline_s(peer), LONGEST_CONNECT_S)
            start_s = time.perf_counter()
            reason = self.transport.probe(peer, timeout_s, patient=False)
            # Who has not answered yet may be a host that is well, on a machine that is busy; a
            # request finds out by its deadline.
            if reason is not None and time.perf_counter() < start_s + timeout_s:
                self.health.mark_down(peer, reason)

    def close(self) -> None:
        """Drop connections and free the segments."""
        self.health.close()
        if self.transport is not None:
            self.transport.close()
        self.segments.close()


def message_limit_bytes(manifest: Manifest) -> int:
    """The largest message that calls and pushes may need, with room for dynamic shapes."""
    largest = max(
        sum(
            math.prod(spec.planned_shape) * element_bits(spec.dtype) // 8
            for spec in (manifest.tensors[name] for name in names)
            if spec.planned_shape is not None
        )
        for plan in manifest.plans
        for names in (
            *(names for call in plan.calls for names in (call.inputs, call.outputs)),
            *(push.tensors for push in pushes_of(plan)),
        )
    )
    wanted = max(SMALLEST_MESSAGE_LIMIT_BYTES, 4 * largest)
    return min(wanted, LARGEST_MESSAGE_LIMIT_BYTES)


def _calls_together(manifest: Manifest, host: str) -> dict[str, frozenset[str]]:
    """Call -> all calls that a request which makes it makes to ``host``: those of one plan."""
    together: dict[str, frozenset[str]] = {}
    for plan in manifest.plans:
        calls = frozenset(call.id for call in plan.calls if call.host == host)
        together.update(dict.fromkeys(calls, calls))
    return together


def _peer_addresses(bundle: Bundle, plan: HostPlan, given: Mapping[str, str]) -> dict[str, str]:
    for name in given:
        if name not in bundle.manifest.hosts:
            raise UsageError(
                f"an address is given for a host that is not there. "
                f"{unknown_name('host', name, bundle.manifest.hosts)}"
            )
    addresses: dict[str, str] = {}
    for peer in dict.fromkeys((*plan.peers, *plan.pushed_to)):
        address = given.get(peer) or bundle.manifest.hosts[peer].address
        if address is None:
            raise UsageError(
                f"host {peer!r} has no address{_why_needed(plan, peer)}; give one "
                "(NAME=HOST:PORT), or write it as address in the topology, or run all hosts on "
                "this machine with --local"
            )
        addresses[peer] = address
    return addresses


def _why_needed(plan: HostPlan, peer: str) -> str:
    return "" if peer in plan.peers else f", and host {plan.host!r} sends it tensors directly"
