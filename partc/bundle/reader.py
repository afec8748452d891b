"""Reads a bundle: its manifest, the files a host loads, the golden pair."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from partc.bundle.arrays import read_npz
from partc.bundle.integrity import check_files
from partc.bundle.manifest import HostEntry, Manifest
from partc.errors import BundleError, UsageError
from partc.suggest import unknown_name

Array = np.ndarray[Any, np.dtype[Any]]

GOLDEN_INPUT = "golden/input.npz"
GOLDEN_OUTPUT = "golden/output.npz"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. A host needs only its own files of it, besides the manifest."""

    path: Path
    manifest: Manifest = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest of the bundle at ``path``.

        Raises:
            BundleError: it is not a bundle, or its schema is newer.
        """
        return cls(Path(path), Manifest.load(Path(path)))

    def host(self, name: str) -> HostEntry:
        """What host ``name`` needs.

        Raises:
            UsageError: the bundle has no such host.
        """
        if name not in self.manifest.hosts:
            raise UsageError(
                f"bundle {self.path}: {unknown_name('host', name, self.manifest.hosts)}"
            )
        return self.manifest.hosts[name]

    def artefact_path(self, host: str, segment_id: str) -> Path:
        """The file with which ``host`` runs a segment, its own or, as a fallback, another's.

        Raises:
            BundleError: the host has no artefact for that segment.
        """
        return self.path / self.artefact_name(host, segment_id)

    def artefact_name(self, host: str, segment_id: str) -> str:
        """As `artefact_path`, relative to the bundle."""
        entry = self.host(host)
        artefacts = {**entry.fallback, **entry.artefacts}
        if segment_id not in artefacts:
            raise BundleError(
                f"host {host!r} of bundle {self.path}: "
                f"{unknown_name('segment', segment_id, artefacts)}"
            )
        return artefacts[segment_id].path

    def check(self, only: Iterable[str] | None = None) -> None:
        """Check files against the manifest: all of them, or those named.

        Raises:
            IntegrityError: a file is not what the manifest says.
        """
        check_files(self.path, self.manifest.files, only)

    def check_artefacts(self, names: Iterable[str]) -> None:
        """Check the named artefacts, and the files with weights that they refer to.

        Raises:
            IntegrityError: a file is not what the manifest says.
        """
        wanted = dict.fromkeys(names)
        for host in self.manifest.hosts.values():
            for artefact in (*host.artefacts.values(), *host.fallback.values()):
                if artefact.path in wanted:
                    wanted.update(dict.fromkeys(artefact.data))
        self.check(wanted)

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The golden input and the whole model's answer to it, by tensor name.

        Raises:
            BundleError: they are missing, changed, or not readable.
        """
        return self.arrays(GOLDEN_INPUT), self.arrays(GOLDEN_OUTPUT)

    @cached_property
    def identity(self) -> str:
        """Digest of what hosts must agree on to work together: the plan and every artefact."""
        artefacts = {
            name: {segment: self._digest(file.path) for segment, file in host.artefacts.items()}
            for name, host in self.manifest.hosts.items()
        }
        plans = [plan.model_dump(mode="json", by_alias=True) for plan in self.manifest.plans]
        agreed = [plans, artefacts]
        return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()

    def _digest(self, path: str) -> str:
        return self.manifest.files[path].sha256

    def arrays(self, name: str) -> dict[str, Array]:
        """An ``.npz`` file of the bundle, checked.

        Raises:
            BundleError: it is missing, changed, or not readable.
        """
        if name not in self.manifest.files:
            raise BundleError(f"bundle {self.path} has no {name}; compile it again")
        self.check([name])
        try:
            return read_npz(self.path / name)
        except (OSError, ValueError) as error:
            raise BundleError(f"{name} of bundle {self.path} cannot be read: {error}") from error
