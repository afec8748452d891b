"""Runs all hosts of a bundle on this machine, joined by emulated links."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from partc.bundle.reader import Bundle
from partc.errors import UsageError
from partc.ir.topology import Link
from partc.runtime.device import Answer, Deployment, open_bundle
from partc.runtime.processes import Child
from partc.runtime.segments import Fallback
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]

START_TIMEOUT_S = 60.0


class LocalDeployment:
    """Every other host of a bundle as a process of its own, and the root host in this one.

    A context manager; all processes end with it, and with this process.

    Args:
        emulate_links: join hosts by relays with the bandwidth and delay that the bundle's
            topology gives; otherwise they talk directly.
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
        deadline_s: float | None = None,
        verify_files: bool = True,
        fallback: Fallback = "preload",
    ) -> None:
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._options: list[str] = [] if verify_files else ["--no-verify"]
        if deadline_s is not None:
            self._options += ["--deadline", str(deadline_s)]
        plan = self._bundle.manifest.plan
        every = [call for each in self._bundle.manifest.plans for call in each.calls]
        self._calls = list(dict.fromkeys((c.caller, c.host) for c in every if c.caller))
        self._links: list[_EmulatedLink] = []
        self._hosts: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        try:
            if emulate_links:
                self._start_links()
            self._start_hosts()
            self.deployment = open_bundle(
                self._bundle,
                addresses=self._addresses_for(plan.root),
                deadline_s=deadline_s,
                verify_files=verify_files,
                fallback=fallback,
            )
        except BaseException:
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
        self._link(one, other).relay.tell("cut")

    def hang_link(self, one: str, other: str) -> None:
        """Pass nothing on between two hosts, silently, until `mend_link`."""
        self._link(one, other).relay.tell("hang")

    def set_bandwidth(self, one: str, other: str, bandwidth_mbit_s: float) -> None:
        """Let the link of two hosts be faster or slower from now on, in both directions."""
        self._link(one, other).relay.tell(f"bandwidth {bandwidth_mbit_s} {bandwidth_mbit_s}")

    def mend_link(self, one: str, other: str) -> None:
        """Undo `cut_link` and `hang_link`."""
        self._link(one, other).relay.tell("mend")

    def process_ids(self) -> dict[str, int]:
        """Process of each host, and of each link as ``one-other``."""
        links = {"-".join(link.ends): link.relay.pid for link in self._links}
        return {name: child.pid for name, child in self._hosts.items()} | links

    def close(self) -> None:
        """Close the root host and end every process."""
        try:
            self.deployment.close()
        finally:
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
            if set(link.ends) == {one, other}:
                return link
        raise UsageError(f"no emulated link joins {one!r} and {other!r}")

    def _start_links(self) -> None:
        topology = self._bundle.manifest.topology
        calls_of: dict[frozenset[str], list[tuple[str, str]]] = {}
        for caller, host in self._calls:
            calls_of.setdefault(frozenset((caller, host)), []).append((caller, host))
        for calls in calls_of.values():
            self._links.append(_EmulatedLink(topology.link_between(*calls[0]), calls))
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
        for name in self._callees_first(names):
            self._hosts[name] = self._launch(name)
            self._await_host(name)

    def _callees_first(self, names: list[str]) -> list[str]:
        called_by = {name: [h for c, h in self._calls if c == name] for name in names}
        ordered: list[str] = []

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise UsageError(f"hosts {' and '.join(path)} call each other; emulate the links")
            for callee in called_by[name]:
                visit(callee, (*path, name))
            if name not in ordered:
                ordered.append(name)

        for name in names:
            visit(name, ())
        return ordered

    def _launch(self, name: str, listen: str = "127.0.0.1:0") -> Child:
        arguments = [str(self._bundle.path), "--host", name, "--listen", listen]
        for host, address in self._addresses_for(name).items():
            arguments += ["--address", f"{host}={address}"]
        return Child(
            f"host {name!r}",
            "partc.runtime.server",
            [*arguments, "--exit-with-input", *self._options],
        )

    def _await_host(self, name: str) -> None:
        self.addresses[name] = self._hosts[name].ready_line(START_TIMEOUT_S)
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


class _EmulatedLink:
    """The relay process of one link; one listener for each direction of calls."""

    def __init__(self, link: Link, calls: list[tuple[str, str]]) -> None:
        self.ends = link.between
        near, far = link.between
        towards_far = [call for call in calls if call == (near, far)]
        towards_near = [call for call in calls if call == (far, near)]
        self._calls = towards_far + towards_near
        self._addresses: list[str] = []
        self.relay = Child(
            f"the link between {near!r} and {far!r}",
            "partc.runtime.relay",
            [
                f"--forward-mbit-s={link.mbit_s(near)}",
                f"--backward-mbit-s={link.mbit_s(far)}",
                f"--rtt-ms={link.rtt_ms}",
                *["--to=127.0.0.1:0" for _ in towards_far],
                *["--back=127.0.0.1:0" for _ in towards_near],
            ],
        )

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
