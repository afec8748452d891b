"""Checks that the files of a bundle are what its manifest says, before anything opens them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from partc.bundle.manifest import FileEntry
from partc.bundle.paths import safe_relative_path
from partc.errors import IntegrityError
from partc.suggest import unknown_name

_AGAIN = "copy the bundle again from where it was compiled, or compile it again"
_CHUNK_BYTES = 1 << 20


def check_files(
    bundle: Path, files: Mapping[str, FileEntry], only: Iterable[str] | None = None
) -> None:
    """Check ``files`` (path relative to ``bundle`` -> digest), or ``only`` some of them.

    Raises:
        IntegrityError: a file is missing, is a link, has several names, or has other contents.
    """
    for path in files if only is None else only:
        if path not in files:
            raise IntegrityError(unknown_name("file in the manifest", path, files))
        check_file(bundle, path, files[path])


def check_file(bundle: Path, path: str, entry: FileEntry) -> None:
    """Check one file; ``path`` is relative to ``bundle``.

    Raises:
        IntegrityError: as `check_files`.
    """
    if not safe_relative_path(path):
        raise IntegrityError(f"file path {path!r} leaves the bundle; {_AGAIN}")
    _check_parents(bundle, path)
    # The checks look at the open file, so that it cannot be exchanged between them.
    try:
        descriptor = os.open(bundle / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise IntegrityError(f"file {path!r} of bundle {bundle} is missing; {_AGAIN}") from None
    except OSError as error:
        if (bundle / path).is_symlink():
            raise IntegrityError(_link_sentence(bundle, path)) from error
        raise IntegrityError(
            f"file {path!r} of bundle {bundle} cannot be read: {error.strerror or error}"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError(f"{path!r} of bundle {bundle} is not a plain file; {_AGAIN}")
        if found.st_nlink != 1:
            raise IntegrityError(
                f"file {path!r} of bundle {bundle} has {found.st_nlink} names (hard links), so it "
                "could be changed from outside; copy the bundle without links"
            )
        if found.st_size != entry.size_bytes:
            raise IntegrityError(
                f"file {path!r} of bundle {bundle} has {found.st_size} bytes and should have "
                f"{entry.size_bytes}; {_AGAIN}"
            )
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"file {path!r} of bundle {bundle} was changed after compiling: "
            f"its SHA-256 is not the manifest's; {_AGAIN}"
        )


def _check_parents(bundle: Path, path: str) -> None:
    for parent in list(PurePosixPath(path).parents)[:-1]:
        if (bundle / parent).is_symlink():
            raise IntegrityError(_link_sentence(bundle, str(parent)))


def _link_sentence(bundle: Path, path: str) -> str:
    return (
        f"{path!r} of bundle {bundle} is a symbolic link, which may point outside the bundle; "
        "copy the bundle without links"
    )
