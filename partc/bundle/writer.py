"""Writes a bundle so that it is either there whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx

from partc.bundle.arrays import write_npz
from partc.bundle.manifest import MANIFEST_NAME, Artefact, FileEntry, Manifest
from partc.bundle.paths import safe_relative_path
from partc.bundle.weights import shared_weights, with_weights_beside
from partc.errors import BundleError
from partc.ir.program import Array

_LARGEST_INLINE_BYTES = 2**30
_CHUNK_BYTES = 2**20
_WEIGHTS_NAME = "weights.data"


def refuse_existing(output: Path, force: bool) -> None:
    """Stop early when the output cannot be written.

    Raises:
        BundleError: it exists and ``force`` is off, or it is something that is not a bundle.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_symlink() or not output.is_dir():
        raise BundleError(f"output {output} exists and is not a folder; choose another name")
    if not any(output.iterdir()):
        return
    if not force:
        raise BundleError(f"output {output} exists; choose another name or give --force")
    if not _is_bundle(output):
        raise BundleError(
            f"output {output} exists and is not a bundle; --force replaces bundles only, "
            "choose another name"
        )


def _is_bundle(folder: Path) -> bool:
    """Whether it was made by partc: other programs have a ``manifest.json`` too."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"schema_version", "partc_version"} <= manifest.keys()


class BundleWriter:
    """A context manager: files gather in a hidden folder beside the output, which then moves.

    Leaving it without `finish`, by an error or Ctrl-C, removes what was gathered.

    Raises:
        BundleError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, output: Path, force: bool = False) -> None:
        self._output = output.absolute()
        self._force = force
        self._staging = self._output.with_name(
            f".{self._output.name}.{uuid.uuid4().hex[:8]}.unfinished"
        )
        self._files: dict[str, FileEntry] = {}
        self._made_parents: tuple[Path, ...] = ()

    def __enter__(self) -> Self:
        refuse_existing(self._output, self._force)
        parents = self._output.parents
        self._made_parents = tuple(parent for parent in parents if not parent.exists())
        try:
            self._staging.mkdir(parents=True)
        except OSError as error:
            self._remove_made_parents()
            raise self._explain(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._remove_made_parents()
        if isinstance(error, OSError):
            raise self._explain(error) from error

    @property
    def files(self) -> dict[str, FileEntry]:
        """Digests and sizes of what was added so far, by path inside of the bundle."""
        return dict(self._files)

    def path_of(self, path: str) -> Path:
        """Where a file that was added lies until the bundle is finished."""
        return self._staging / path

    def add_bytes(self, path: str, data: bytes) -> str:
        """Add a file; returns ``path``."""
        target = self._target(path)
        target.write_bytes(data)
        self._register(path)
        return path

    def add_model(self, path: str, model: onnx.ModelProto) -> str:
        """Add an ONNX file; weights past a gigabyte go into a file of their own beside it."""
        if model.ByteSize() <= _LARGEST_INLINE_BYTES:
            return self.add_bytes(path, model.SerializeToString())
        target = self._target(path)
        data_name = f"{target.name}.data"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, target, save_as_external_data=True, location=data_name)
        self._register(path)
        self._register(str(Path(path).with_name(data_name)))
        return path

    def add_arrays(self, path: str, arrays: Mapping[str, Array]) -> str:
        """Add an ``.npz``; see `partc.bundle.arrays`."""
        write_npz(self._target(path), arrays)
        self._register(path)
        return path

    def add_models(self, folder: str, models: Mapping[str, onnx.ModelProto]) -> dict[str, Artefact]:
        """Add the models of one host as ``<folder>/<key>.onnx``.

        Weights that several of them hold are stored once, in a file beside them.
        """
        shared = shared_weights(models.values(), _LARGEST_INLINE_BYTES)
        data: list[str] = []
        if shared:
            name = f"{folder}/{_WEIGHTS_NAME}"
            models = with_weights_beside(models, shared, self._target(name))
            self._register(name)
            data = [name]
        artefacts: dict[str, Artefact] = {}
        for key, model in models.items():
            path = self.add_bytes(f"{folder}/{key}.onnx", model.SerializeToString())
            refers = any(w.external_data for w in model.graph.initializer)
            artefacts[key] = Artefact(path=path, format="onnx", data=data if refers else [])
        return artefacts

    def finish(self, manifest: Manifest) -> Path:
        """Write the manifest and move the bundle to where it was wanted."""
        (self._staging / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        refuse_existing(self._output, self._force)
        replaced = self._output.with_name(f".{self._output.name}.{uuid.uuid4().hex[:8]}.old")
        try:
            if self._output.exists():
                self._output.rename(replaced)
            self._staging.replace(self._output)
        finally:
            # Ctrl-C may come between the two: then the old bundle goes back to its place.
            if replaced.exists() and not self._output.exists():
                replaced.rename(self._output)
        shutil.rmtree(replaced, ignore_errors=True)
        self._made_parents = ()
        return self._output

    def _remove_made_parents(self) -> None:
        for parent in self._made_parents:
            with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
                parent.rmdir()

    def _target(self, path: str) -> Path:
        if not safe_relative_path(path) or path in self._files:
            raise BundleError(f"{path!r} cannot be a file of the bundle")
        target = self._staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _register(self, path: str) -> None:
        digest = hashlib.sha256()
        file = self._staging / path
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        self._files[path] = FileEntry(sha256=digest.hexdigest(), size_bytes=file.stat().st_size)

    def _explain(self, error: OSError) -> BundleError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return BundleError(
                f"the disk is full: the bundle {self._output} needs more room; "
                "free some or choose another --output; nothing was left behind"
            )
        return BundleError(
            f"the bundle {self._output} cannot be written: {error.strerror or error}"
        )
