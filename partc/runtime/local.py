"""Runs all hosts of a bundle on this machine, joined by emulated links."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from partc.bundle.exchanges import pushes_of
from partc.bundle.manifest import Manifest
from partc.bundle.reader import Bundle
from partc.errors import UsageError
from partc.ir.topology import Link, Topology
from partc.runtime.cores import OwnCores, cores_of_hosts
from partc.runtime.device import Answer, Deployment, open_bundle
from partc.runtime.processes import Child, free_addresses
from partc.runtime.segments import Fallback
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]

START_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 3600.0
"""A host may build its engines before it serves."""


class LocalDeployment:
    """Every other host of a bundle as a process of its own, and the root host in this one.

    A context manager; all processes end with it, and with this process.

    Args:
        emulate_links: join hosts by relays with the bandwidth and delay that the bundle's
            topology gives; otherwise they talk directly.
        bandwidth_mbit_s: of the first link, towards its second host, or of the bus, in place of
            what the topology gives; the other direction and links keep their proportion.
        pin: give each host cores of its own, as many as it has threads, where there are enough;
            the thread that opens the deployment is then pinned as well, until `close`.
        deadline_s, verify_files, fallback: as for `open_bundle`.

    Attributes:
        deployment: the root host.
        addresses: where each other host listens, not counting relays.

    Raises:
        BundleError: the bundle is not usable.
        PartcError: a process could not be started, in one sentence that says why.
    """

    deployment: Deployment

    def __init__(
        self,
        bundle: str | Path | Bundle,
        emulate_links: bool = True,
        *,
        bandwidth_mbit_s: float | None = None,
        pin: bool = True,
        deadline_s: float | None = None,
        verify_files: bool = True,
        fallback: Fallback = "preload",
    ) -> None:
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._options: list[str] = [] if verify_files else ["--no-verify"]
        if deadline_s is not None:
            self._options += ["--deadline", str(deadline_s)]
        plan = self._bundle.manifest.plan
        self._calls = _who_sends_to_whom(self._bundle.manifest)
        self._factor = _bandwidth_factor(self._bundle.manifest.topology, bandwidth_mbit_s)
        entries = self._bundle.manifest.hosts
        busy = {plan.root, *(host for _, host in self._calls)}
        threads = {name: entry.threads for name, entry in entries.items() if name in busy}
        self._cores = cores_of_hosts(threads, plan.root) if pin else {}
        self._own_cores = OwnCores()
        self._links: list[_EmulatedLink] = []
        self._hosts: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        try:
            if emulate_links:
                self._start_links()
            self._start_hosts()
            self._own_cores.take(self._cores.get(plan.root, ()))
            self.deployment = open_bundle(
                self._bundle,
                addresses=self._addresses_for(plan.root),
                deadline_s=deadline_s,
                verify_files=verify_files,
                fallback=fallback,
            )
        except BaseException:
            self._own_cores.give_back()
            self._end_processes()
            raise

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """As `Deployment.run`."""
        return self.deployment.run(feeds)

    def request(self, feeds: Mapping[str, Any], plan: str | None = None) -> Answer:
        """As `Deployment.request`."""
        return self.deployment.request(feeds, plan)

    def kill_host(self, name: str) -> None:
        """End a host's process at once (SIGKILL)."""
        self._child(name).kill()

    def stop_host(self, name: str) -> None:
        """Freeze a host (SIGSTOP): it keeps its connections and answers nothing."""
        self._child(name).send(signal.SIGSTOP)

    def continue_host(self, name: str) -> None:
        """Wake a frozen host (SIGCONT)."""
        self._child(name).send(signal.SIGCONT)

    def restart_host(self, name: str) -> None:
        """Start a host again, at the same address, and wait until it is ready."""
        self._child(name).kill()
        self._hosts[name] = self._launch(name, listen=self.addresses[name])
        self._await_host(name)

    def cut_link(self, one: str, other: str) -> None:
        """Reset the connections between two hosts and refuse new ones, until `mend_link`."""
        self._link(one, other).tell("cut", one, other)

    def hang_link(self, one: str, other: str) -> None:
        """Pass nothing on between two hosts, silently, until `mend_link`."""
        self._link(one, other).tell("hang", one, other)

    def set_bandwidth(self, one: str, other: str, bandwidth_mbit_s: float) -> None:
        """Let the link of two hosts be faster or slower from now on, in both directions."""
        self._link(one, other).relay.tell(f"bandwidth {bandwidth_mbit_s} {bandwidth_mbit_s}")

    def mend_link(self, one: str, other: str) -> None:
        """Undo `cut_link` and `hang_link`."""
        self._link(one, other).tell("mend", one, other)

    def process_ids(self) -> dict[str, int]:
        """Process of each host, of each link as ``one-other``, and of a shared bus as ``bus``."""
        links = {link.name: link.relay.pid for link in self._links}
        return {name: child.pid for name, child in self._hosts.items()} | links

    def close(self) -> None:
        """Close the root host and end every process."""
        try:
            self.deployment.close()
        finally:
            self._own_cores.give_back()
            self._end_processes()

    def _end_processes(self) -> None:
        for child in (*self._hosts.values(), *(link.relay for link in self._links)):
            child.kill()
        self._hosts.clear()
        self._links.clear()

    def _child(self, name: str) -> Child:
        if name not in self._hosts:
            raise UsageError(unknown_name("host process", name, self._hosts))
        return self._hosts[name]

    def _link(self, one: str, other: str) -> _EmulatedLink:
        for link in self._links:
            if link.joins(one, other):
                return link
        raise UsageError(f"no emulated link joins {one!r} and {other!r}")

    def _start_links(self) -> None:
        topology = self._bundle.manifest.topology
        if self._calls and any(bus.shared for bus in topology.bus):
            medium = topology.link_between(*self._calls[0])
            self._links.append(_EmulatedLink(medium, self._calls, self._factor, is_medium=True))
        else:
            between: dict[frozenset[str], list[tuple[str, str]]] = {}
            for sender, host in self._calls:
                between.setdefault(frozenset((sender, host)), []).append((sender, host))
            for calls in between.values():
                joint = topology.link_between(*calls[0])
                self._links.append(_EmulatedLink(joint, calls, self._factor))
        for link in self._links:
            link.await_ready()

    def _start_hosts(self) -> None:
        names = list(dict.fromkeys(host for _, host in self._calls))
        if self._links:
            # Callers know the relays' addresses already, so all hosts can start at once.
            for name in names:
                self._hosts[name] = self._launch(name)
            for name in names:
                self._await_host(name)
            return
        order = self._callees_first(names)
        if order is None:
            # Each of two hosts must know where the other listens before either is there.
            self.addresses.update(zip(names, free_addresses(len(names)), strict=True))
            for name in names:
                self._hosts[name] = self._launch(name, listen=self.addresses[name])
            for name in names:
                self._await_host(name)
            return
        for name in order:
            self._hosts[name] = self._launch(name)
            self._await_host(name)

    def _callees_first(self, names: list[str]) -> list[str] | None:
        """None where hosts send to each other in a circle."""
        called_by = {name: {h for c, h in self._calls if c == name} for name in names}
        try:
            return list(TopologicalSorter(called_by).static_order())
        except CycleError:
            return None

    def _launch(self, name: str, listen: str = "127.0.0.1:0") -> Child:
        arguments = [str(self._bundle.path), "--host", name, "--listen", listen]
        for host, address in self._addresses_for(name).items():
            arguments += ["--address", f"{host}={address}"]
        if name in self._cores:
            arguments += ["--cores", ",".join(map(str, self._cores[name]))]
        return Child(
            f"host {name!r}",
            "partc.runtime.server",
            [*arguments, "--exit-with-input", *self._options],
        )

    def _await_host(self, name: str) -> None:
        has_engines = bool(self._bundle.host(name).engines)
        timeout_s = BUILD_TIMEOUT_S if has_engines else START_TIMEOUT_S
        self.addresses[name] = self._hosts[name].ready_line(timeout_s)
        for link in self._links:
            link.set_target(name, self.addresses[name])

    def _addresses_for(self, caller: str) -> dict[str, str]:
        addresses: dict[str, str] = {}
        for who, host in self._calls:
            if who != caller:
                continue
            relayed = [link.address_of(caller, host) for link in self._links]
            found = next((address for address in relayed if address is not None), None)
            addresses[host] = found or self.addresses[host]
        return addresses

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _who_sends_to_whom(manifest: Manifest) -> list[tuple[str, str]]:
    """Pairs of hosts of which the first opens connections to the second: for calls, or pushes."""
    pairs: dict[tuple[str, str], None] = {}
    for plan in manifest.plans:
        pairs.update({(call.caller, call.host): None for call in plan.calls if call.caller})
        pairs.update({(push.sender, push.receiver): None for push in pushes_of(plan)})
    return list(pairs)


def _bandwidth_factor(topology: Topology, bandwidth_mbit_s: float | None) -> float:
    if bandwidth_mbit_s is None:
        return 1.0
    if not 0 < bandwidth_mbit_s < float("inf"):
        raise UsageError(f"bandwidth_mbit_s must be a positive number, not {bandwidth_mbit_s:g}")
    if topology.bus:
        return bandwidth_mbit_s / topology.bus[0].bandwidth_mbit_s
    if not topology.links:
        raise UsageError("the topology has no link that could have another bandwidth")
    first = topology.links[0]
    return bandwidth_mbit_s / first.mbit_s(first.between[0])


class _EmulatedLink:
    """The relay process of one link, or of a medium that several hosts share.

    It has one listener for each pair of hosts of which one opens connections to the other.
    """

    def __init__(
        self,
        link: Link,
        calls: list[tuple[str, str]],
        factor: float = 1.0,
        *,
        is_medium: bool = False,
    ) -> None:
        near, far = link.between
        self._is_medium = is_medium
        self.name = "bus" if is_medium else f"{near}-{far}"
        towards_near = [] if is_medium else [call for call in calls if call == (far, near)]
        towards_far = [call for call in calls if call not in towards_near]
        self._calls = towards_far + towards_near
        self._addresses: list[str] = []
        self.relay = Child(
            "the bus" if is_medium else f"the link between {near!r} and {far!r}",
            "partc.runtime.relay",
            [
                f"--forward-mbit-s={link.mbit_s(near) * factor}",
                f"--backward-mbit-s={link.mbit_s(far) * factor}",
                f"--rtt-ms={link.rtt_ms}",
                *(["--medium"] if is_medium else []),
                *["--to=127.0.0.1:0" for _ in towards_far],
                *["--back=127.0.0.1:0" for _ in towards_near],
            ],
        )

    def joins(self, one: str, other: str) -> bool:
        """Whether two hosts talk through it."""
        return any({one, other} == set(call) for call in self._calls)

    def tell(self, command: str, one: str, other: str) -> None:
        """Cut, hang or mend what joins two hosts."""
        if self._is_medium:
            numbers = [str(i) for i, call in enumerate(self._calls) if set(call) == {one, other}]
            command = " ".join([command, *numbers])
        self.relay.tell(command)

    def await_ready(self) -> None:
        self._addresses = json.loads(self.relay.ready_line(START_TIMEOUT_S))

    def address_of(self, caller: str, host: str) -> str | None:
        """Where ``caller`` reaches ``host`` through this link, if it is their link."""
        if (caller, host) not in self._calls:
            return None
        return self._addresses[self._calls.index((caller, host))]

    def set_target(self, host: str, address: str) -> None:
        for index, (_, called) in enumerate(self._calls):
            if called == host:
                self.relay.tell(f"target {index} {address}")
