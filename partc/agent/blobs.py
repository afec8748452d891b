"""Files by their SHA-256, so that what was sent once need not be sent again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from partc.errors import RequestError

LARGEST_BLOB_BYTES = 1 << 36
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_KEPT_S = 600.0
"""A job's files are there before the job is: nothing that was asked for lately is dropped."""

_DISK_LEFT_BYTES = 256 << 20


def checked_digest(text: str) -> str:
    """``text`` when it is a SHA-256 in hexadecimal: it becomes a file's name.

    Raises:
        RequestError: it is something else.
    """
    if not _DIGEST.match(text):
        raise RequestError(f"{text[:80]!r} is not a SHA-256")
    return text


class BlobStore:
    """The files of one folder; older ones give way once they are more than ``limit_bytes``."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._limit_bytes = limit_bytes
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)

    def path(self, digest: str) -> Path:
        """Where a file is.

        Raises:
            RequestError: it is not there, or ``digest`` is none.
        """
        path = self._folder / checked_digest(digest)
        if not path.is_file():
            raise RequestError(f"no file with SHA-256 {digest} was sent; send it first")
        os.utime(path)
        return path

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that would have to be sent."""
        absent: list[str] = []
        for digest in dict.fromkeys(digests):
            try:
                self.path(digest)
            except RequestError:
                absent.append(checked_digest(digest))
        return absent

    def receive(
        self, digest: str, size_bytes: int, next_chunk: Callable[[], bytes | memoryview]
    ) -> None:
        """Take in a file; ``next_chunk`` gives nothing at its end.

        Raises:
            RequestError: it is too large, or not what was announced.
        """
        checked_digest(digest)
        self._make_room(size_bytes)
        unfinished = self._incoming / uuid.uuid4().hex
        found = hashlib.sha256()
        received = 0
        try:
            with unfinished.open("xb") as file:
                while chunk := next_chunk():
                    received += len(chunk)
                    if received > size_bytes:
                        raise RequestError(f"more than the announced {size_bytes} bytes were sent")
                    found.update(chunk)
                    file.write(chunk)
            if received != size_bytes or found.hexdigest() != digest:
                raise RequestError(
                    f"what was sent ({received} bytes) is not the file that was announced "
                    f"({size_bytes} bytes); send it again"
                )
            unfinished.replace(self._folder / digest)
        except OSError as error:
            raise RequestError(f"a file cannot be kept: {error.strerror or error}") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def adopt(self, path: Path) -> tuple[str, int]:
        """Take in a file that was made here, which lies on the same disk; its digest and size.

        Raises:
            RequestError: there is no room for it, or it is no file.
        """
        try:
            if path.is_symlink() or not path.is_file():
                raise RequestError("what was to be kept is not there")
            size_bytes = path.stat().st_size
            self._make_room(size_bytes)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            path.replace(self._folder / digest)
        except OSError as error:
            raise RequestError(f"a file cannot be kept: {error.strerror or error}") from error
        return digest, size_bytes

    def _make_room(self, size_bytes: int) -> None:
        if not 0 <= size_bytes <= LARGEST_BLOB_BYTES:
            raise RequestError(f"a file of {size_bytes} bytes is not taken")
        kept = sorted(
            ((found.st_mtime, found.st_size, path) for path, found in self._files()),
            key=lambda each: each[0],
        )
        used_bytes = size_bytes + sum(size for _, size, _ in kept)
        for touched_s, size, path in kept:
            free_bytes = shutil.disk_usage(self._folder).free
            fits = used_bytes <= self._limit_bytes and free_bytes > size_bytes + _DISK_LEFT_BYTES
            if fits or time.time() - touched_s < _KEPT_S:
                break
            path.unlink(missing_ok=True)
            used_bytes -= size
        if shutil.disk_usage(self._folder).free < size_bytes + _DISK_LEFT_BYTES:
            raise RequestError(
                f"the agent's disk has no room for {size_bytes} bytes more; free some there"
            )

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found: list[tuple[Path, os.stat_result]] = []
        for path in self._folder.iterdir():
            if _DIGEST.match(path.name):
                try:
                    found.append((path, path.stat()))
                except FileNotFoundError:
                    continue
        return found
