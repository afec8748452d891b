"""Takes a host's part of a bundle: first all its files, then from one moment to the next."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from partc.agent.blobs import BlobStore
from partc.agent.measuring import BusyError
from partc.agent.messages import Digest, Offer, OfferAnswer
from partc.agent.serving import ServedVersions, Version
from partc.bundle.manifest import MANIFEST_NAME, Manifest
from partc.bundle.paths import safe_relative_path
from partc.bundle.reader import Bundle
from partc.errors import BundleError, PartcError, RequestError
from partc.runtime.credentials import Credentials
from partc.runtime.engine_segments import EngineTerms
from partc.runtime.host import Host, message_limit_bytes
from partc.suggest import unknown_name

LARGEST_MANIFEST_BYTES = 32 << 20
MOST_FILES = 10_000
_RECORD = "serving.json"
_LONGEST_WAIT_S = 10.0
_ACTIVATED_WITHIN_S = 3600.0


class _Record(BaseModel):
    """What is served, as it is written down for the next start."""

    model_config = ConfigDict(extra="forbid")

    id: Digest
    host: str


@dataclass(frozen=True)
class _Offered:
    id: str
    host: str
    text: str
    manifest: Manifest
    needed: dict[str, str]


class Deployments:
    """The bundles of a node: one is served, one may be waiting to be.

    Args:
        folder: where they are kept, each in a folder of its own.
        largest_bytes: of one host's part.
        largest_message_bytes: that the node's server takes.
        credentials: for connections to the hosts that this one calls.
        engines: on which terms engines are used.
    """

    def __init__(
        self,
        folder: Path,
        blobs: BlobStore,
        versions: ServedVersions,
        *,
        largest_bytes: int,
        largest_message_bytes: int,
        credentials: Callable[[], Credentials | None],
        engines: EngineTerms | None = None,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._versions = versions
        self._largest_bytes = largest_bytes
        self._largest_message_bytes = largest_message_bytes
        self._credentials = credentials
        self._engines = engines
        self._lock = threading.Lock()
        self._offered: _Offered | None = None
        self._ready: Version | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> str:
        """Serve again what was served last; a sentence where that is not possible."""
        record = self._read_record()
        for path in self._folder.iterdir():
            if path.is_dir() and (record is None or path.name != record.id):
                shutil.rmtree(path, ignore_errors=True)
        if record is None:
            return ""
        try:
            self._versions.replace(self._open(record.id, record.host))
        except PartcError as error:
            return f"what was served last cannot be served again: {error}; deploy it again"
        return ""

    def offer(self, offer: Offer) -> OfferAnswer:
        """Look at a bundle, and say what is missing of it.

        Raises:
            BundleError: the manifest is not one.
            RequestError: it is too large, or has no such host.
        """
        if len(offer.manifest) > LARGEST_MANIFEST_BYTES:
            raise RequestError(
                f"the manifest has more than {LARGEST_MANIFEST_BYTES >> 20} MiB, and is not taken"
            )
        try:
            manifest = Manifest.parse(json.loads(offer.manifest), "the manifest")
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the manifest is not valid JSON: {error}") from error
        if offer.host not in manifest.hosts:
            raise RequestError(unknown_name("host of the bundle", offer.host, manifest.hosts))
        needed = needed_files(manifest, offer.host)
        total_bytes = sum(manifest.files[path].size_bytes for path in needed)
        if total_bytes > self._largest_bytes or len(needed) > MOST_FILES:
            raise RequestError(
                f"the part of host {offer.host!r} has {len(needed)} files of "
                f"{total_bytes / 2**20:.0f} MiB, and this agent takes {MOST_FILES} files of "
                f"{self._largest_bytes / 2**20:.0f} MiB (--largest-bundle-mib)"
            )
        if message_limit_bytes(manifest) > self._largest_message_bytes:
            raise RequestError(
                f"the plan may need messages of {message_limit_bytes(manifest) >> 20} MiB, and "
                f"this agent takes up to {self._largest_message_bytes >> 20} MiB; serve the bundle "
                "with partc serve"
            )
        identity = hashlib.sha256(f"{offer.host}\n{offer.manifest}".encode()).hexdigest()
        offered = _Offered(identity, offer.host, offer.manifest, manifest, needed)
        current = self._versions.current
        if current is not None and current.id == identity:
            return OfferAnswer(id=identity, missing=[], serves_it=True)
        with self._working():
            self._offered = offered
        return OfferAnswer(
            id=identity, missing=self._blobs.missing(needed.values()), serves_it=False
        )

    def prepare(self, identity: str) -> list[str]:
        """Put the files of an offered bundle in place, check and load them.

        Engines that the bundle asks for are built here, which may take minutes.

        Returns:
            A sentence on each segment that runs as an engine, or does not and should.

        Raises:
            RequestError: files are missing, or another bundle was offered meanwhile.
            PartcError: the bundle cannot be served here.
        """
        with self._working():
            offered = self._offered
            if offered is None or offered.id != identity:
                raise RequestError("another bundle was offered meanwhile; deploy again")
            self._drop_ready()
            folder = self._folder / offered.id
            self._write(offered, folder)
            try:
                self._ready = self._open(offered.id, offered.host)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._await_activation(self._ready)
            return [use.sentence for use in self._ready.host.segments.engines.uses.values()]

    def activate(self, identity: str) -> None:
        """Serve the prepared bundle from now on.

        Raises:
            RequestError: it is not the one that was prepared.
        """
        with self._working():
            ready = self._ready
            if ready is None or ready.id != identity:
                raise RequestError(
                    "this bundle was not prepared, or another one since; deploy again"
                )
            self._write_record(_Record(id=ready.id, host=ready.host.plan.host))
            self._ready = self._offered = None
            self._versions.replace(ready)

    def forget(self, version: Version) -> None:
        """Remove the files of a bundle that is no longer served, unless it is again."""
        record = self._read_record()
        if record is None or record.id != version.id:
            shutil.rmtree(self._folder / version.id, ignore_errors=True)

    def close(self) -> None:
        """Drop what was prepared and not served."""
        with self._lock:
            self._drop_ready()

    @contextmanager
    def _working(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_LONGEST_WAIT_S):
            raise BusyError("it is busy loading a bundle of somebody else; try again later")
        try:
            yield
        finally:
            self._lock.release()

    def _await_activation(self, version: Version) -> None:
        """Whoever deploys may be gone: a bundle that nobody activates is dropped again."""

        def drop() -> None:
            with self._lock:
                if self._ready is version:
                    self._drop_ready()

        timer = threading.Timer(_ACTIVATED_WITHIN_S, drop)
        timer.daemon = True
        timer.start()

    def _drop_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.host.close()
            shutil.rmtree(self._folder / ready.id, ignore_errors=True)

    def _write(self, offered: _Offered, folder: Path) -> None:
        staging = self._folder / f"unfinished-{uuid.uuid4().hex}"
        try:
            staging.mkdir()
            for path, digest in offered.needed.items():
                if not safe_relative_path(path) or path == MANIFEST_NAME:
                    raise RequestError(f"{path!r} cannot be a file of a bundle")
                target = staging / path
                target.parent.mkdir(parents=True, exist_ok=True)
                # Copied: the same file may have several names, and a link would be refused.
                with self._blobs.path(digest).open("rb") as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            (staging / MANIFEST_NAME).write_text(offered.text, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        except OSError as error:
            raise RequestError(
                f"the bundle cannot be written there: {error.strerror or error}"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _open(self, identity: str, host: str) -> Version:
        bundle = Bundle.open(self._folder / identity)
        bundle.check(needed_files(bundle.manifest, host))
        opened = Host(bundle, host, credentials=self._credentials(), engines=self._engines)
        return Version(identity, bundle, opened)

    def _read_record(self) -> _Record | None:
        try:
            return _Record.model_validate_json((self._folder / _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None

    def _write_record(self, record: _Record) -> None:
        unfinished = self._folder / f"{_RECORD}.unfinished"
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(record.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._folder / _RECORD)


def needed_files(manifest: Manifest, host: str) -> dict[str, str]:
    """Path in the bundle -> SHA-256, of all files that one host loads."""
    entry = manifest.hosts[host]
    paths = [
        path
        for artefact in (*entry.artefacts.values(), *entry.fallback.values())
        for path in (artefact.path, *artefact.data)
    ]
    for engine in entry.engines.values():
        paths += [*engine.source, *engine.golden, *(file.path for file in engine.built)]
    return {path: manifest.files[path].sha256 for path in dict.fromkeys(paths)}
