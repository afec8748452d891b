"""Sends each host's part of a bundle to the agent on that host."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from partc.agent.deployment import needed_files
from partc.agent.messages import BundleId, Offer
from partc.agent.wire.client import AgentClient
from partc.bundle.manifest import MANIFEST_NAME
from partc.bundle.reader import Bundle
from partc.errors import UsageError
from partc.runtime.credentials import Credentials
from partc.suggest import unknown_name


@dataclass(frozen=True)
class Deployed:
    """What became of one host's part.

    Attributes:
        files, size_bytes: of the part.
        sent_bytes: that the agent did not have yet.
        was_there: the agent served just this already.
        said: sentences on engines that were built there, or could not be.
    """

    host: str
    address: str
    files: int
    size_bytes: int
    sent_bytes: int
    was_there: bool
    said: tuple[str, ...]


def agents_of(bundle: Bundle, given: Mapping[str, str], hosts: tuple[str, ...]) -> dict[str, str]:
    """Host -> address of its agent, of all hosts that have one, or of those that are named.

    Raises:
        UsageError: a host is unknown or has no agent, or none has.
    """
    known = bundle.manifest.hosts
    for name in (*given, *hosts):
        if name not in known:
            raise UsageError(unknown_name("host of the bundle", name, known))
    found: dict[str, str] = {}
    for name, host in bundle.manifest.topology.hosts.items():
        address = given.get(name) or host.agent
        if address is not None and (not hosts or name in hosts):
            found[name] = address
        elif name in hosts:
            raise UsageError(
                f'host {name!r} has no agent; write agent = "HOST:PORT" in the topology, or give '
                f"--agent {name}=HOST:PORT"
            )
    if not found:
        raise UsageError(
            f'no host of bundle {bundle.path} has an agent; write agent = "HOST:PORT" in the '
            "topology, or give --agent NAME=HOST:PORT"
        )
    return found


def deploy(
    bundle: Bundle,
    agents: Mapping[str, str],
    credentials: Credentials | None,
    progress: Callable[[str, float | None], None] = lambda activity, fraction: None,
) -> list[Deployed]:
    """Send and load everything everywhere first; only then every agent changes over.

    Args:
        agents: host -> address.

    Raises:
        IntegrityError: a file of the bundle is not what the manifest says; nothing is sent.
        UsageError: two hosts share an agent, which serves one.
        TargetError: an agent refuses or cannot be reached; those asked before serve on what they
            did.
    """
    shared = [name for name, at in agents.items() if list(agents.values()).count(at) > 1]
    if shared:
        raise UsageError(
            f"hosts {' and '.join(map(repr, shared))} name the same agent, which serves one host; "
            "start an agent for each"
        )
    manifest = bundle.manifest
    for host in agents:
        progress(f"checking the files of {host}", None)
        bundle.check(needed_files(manifest, host))
    text = _manifest_with(bundle, agents)
    done: list[Deployed] = []
    with ExitStack() as stack:
        clients = {
            host: stack.enter_context(AgentClient(address, credentials, host))
            for host, address in agents.items()
        }
        for client in clients.values():
            client.describe()
        prepared: list[tuple[AgentClient, BundleId]] = []
        for host, client in clients.items():
            needed = needed_files(manifest, host)
            answer = client.offer(Offer(host=host, manifest=text))
            at: dict[str, bytes | Path] = {
                digest: bundle.path / path for path, digest in needed.items()
            }
            sent_bytes, said = 0, list[str]()
            if not answer.serves_it:
                progress(f"sending to {host}", None)
                sent_bytes = client.send(at)
                progress(f"loading on {host}", None)
                said = client.prepare(BundleId(id=answer.id))
                prepared.append((client, BundleId(id=answer.id)))
            done.append(
                Deployed(
                    host=host,
                    address=client.address,
                    files=len(needed),
                    size_bytes=sum(manifest.files[path].size_bytes for path in needed),
                    sent_bytes=sent_bytes,
                    was_there=answer.serves_it,
                    said=tuple(said),
                )
            )
        for client, identity in prepared:
            client.activate(identity)
    return done


def _manifest_with(bundle: Bundle, agents: Mapping[str, str]) -> str:
    """The manifest's text, in which hosts find each other where their agents really are."""
    text = (bundle.path / MANIFEST_NAME).read_text(encoding="utf-8")
    moved = {}
    for name, address in agents.items():
        described = bundle.manifest.topology.hosts[name]
        if described.agent != address:
            moved[name] = described.address is None  # otherwise something else serves it
    if not moved:
        return text
    data = json.loads(text)
    for name, serves in moved.items():
        data["topology"]["hosts"][name]["agent"] = agents[name]
        if serves:
            data["hosts"][name]["address"] = agents[name]
    return json.dumps(data, indent=1)
