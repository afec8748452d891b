"""Engines that were built on this machine, in a folder of the user's own.

They do not go into the bundle: its manifest may be signed, its folder may be read-only, and an
engine is code, which nobody else should be able to put there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from partc.bundle.engines import Candidate
from partc.errors import BundleError
from partc.ir.engine import EngineEntry, EngineFile, Gpu
from partc.ir.engine_folder import engine_folder, timing_cache

_ENGINE, _DESCRIPTION = "engine", "engine.json"
_UNFINISHED = ".unfinished-"
_CHUNK_BYTES = 1 << 20


class EngineStore:
    """Engines by key. An engine is there whole or not at all, whatever ends a build."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or engine_folder()

    def find(self, entry: EngineEntry) -> list[Candidate]:
        """All engines of a segment and recipe, each checked; those with the newest version first.

        They are of whatever GPU and version they were built for.
        """
        folder = self._of_recipe(entry)
        found: list[Candidate] = []
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:
            return []
        for name in names:
            if name.startswith("."):
                continue
            candidate = _read(folder / name)
            if candidate is not None:
                found.append(replace(candidate, is_built_here=True))
        return sorted(found, key=lambda each: each.file.key.version, reverse=True)

    def put(self, entry: EngineEntry, gpu: Gpu, write: Callable[[Path], None]) -> Candidate:
        """Have an engine written, and keep it.

        Args:
            write: writes the engine to the path that it is given.

        Raises:
            BundleError: the disk is full, or the folder cannot be written.
        """
        key = entry.key_for(gpu)
        folder = self._of_recipe(entry)
        staging = folder / f"{_UNFINISHED}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sweep(folder)
            staging.mkdir(mode=0o700)
            engine = staging / _ENGINE
            write(engine)
            _flush(engine)
            file = EngineFile(
                key=key,
                path=_ENGINE,
                sha256=_sha256(engine),
                size_bytes=engine.stat().st_size,
            )
            description = staging / _DESCRIPTION
            description.write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
            _flush(description)
            final = folder / key.digest
            _replace(staging, final)
        except OSError as error:
            raise self._explain(error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return Candidate(file, final / _ENGINE, is_built_here=True)

    def timing_cache(self, gpu: Gpu) -> Path:
        """Where builds for ``gpu`` keep what they timed, so that the next one is quicker.

        Raises:
            BundleError: the folder cannot be written.
        """
        try:
            return timing_cache(gpu, self.root)
        except OSError as error:
            raise self._explain(error) from error

    def _of_recipe(self, entry: EngineEntry) -> Path:
        words = f"{entry.segment_sha256}|{entry.recipe.sha256}"
        return self.root / hashlib.sha256(words.encode()).hexdigest()[:32]

    def _explain(self, error: OSError) -> BundleError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return BundleError(
                f"the disk is full: the engines in {self.root} need more room; free some, or name "
                "another folder in PARTC_ENGINES; nothing half-written was kept"
            )
        return BundleError(
            f"engines cannot be kept in {self.root}: {error.strerror or error}; name another "
            "folder in PARTC_ENGINES"
        )


def _read(folder: Path) -> Candidate | None:
    """An engine with what is wrong with it; None where nothing says what it should be."""
    try:
        text = (folder / _DESCRIPTION).read_text(encoding="utf-8")
        file = EngineFile.model_validate_json(text)
    except (OSError, ValidationError, ValueError):
        return None
    path = folder / _ENGINE
    if file.path != _ENGINE or file.key.digest != folder.name:
        return Candidate(file, path, "its description is of another engine")
    try:
        if path.is_symlink() or not path.is_file():
            return Candidate(file, path, "its file is missing")
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            why = f"its file has {size_bytes} bytes and should have {file.size_bytes}"
            return Candidate(file, path, why)
        if _sha256(path) != file.sha256:
            return Candidate(file, path, "its file was changed after it was built")
    except OSError as error:
        return Candidate(file, path, f"its file cannot be read: {error.strerror or error}")
    return Candidate(file, path)


def _replace(staging: Path, final: Path) -> None:
    """Move a finished folder to its place; one that is there already gives way."""
    for _ in range(3):
        try:
            staging.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        old = final.with_name(f"{_UNFINISHED}{os.getpid()}-{uuid.uuid4().hex[:8]}-old")
        with contextlib.suppress(FileNotFoundError):  # another process moved it a moment ago
            final.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    staging.rename(final)


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed left behind."""
    for path in _unfinished(folder):
        number = path.name.removeprefix(_UNFINISHED).partition("-")[0]
        if not (number.isdigit() and _lives(int(number))):
            shutil.rmtree(path, ignore_errors=True)


def _unfinished(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(_UNFINISHED):
            yield path


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
