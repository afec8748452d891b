"""Finds backends and presets: built-ins and plug-ins come in by the same entry-point group."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from partc.errors import TargetError
from partc.plugins import PluginGroup
from partc.suggest import unknown_name
from partc.targets.protocol import Backend

BACKENDS = PluginGroup("partc.targets", "backend", TargetError)
_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Target:
    """What a host is: a backend and the hardware it runs on.

    Attributes:
        backend: name of the backend that executes and profiles.
        description: one line for people.
        optimization: the backend's level at which segments are deployed.
        origin: the file it was read from.
    """

    name: str
    backend: str
    description: str
    optimization: str
    origin: Path


@cache
def backend_names() -> tuple[str, ...]:
    """All registered backends.

    Raises:
        TargetError: two packages register the same name.
    """
    return BACKENDS.names()


@cache
def load_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        TargetError: unknown, or its package cannot be imported.
    """
    backend = BACKENDS.load(name)
    if not isinstance(backend, Backend):
        raise TargetError(f"entry point {BACKENDS.origin(name)!r} is not a partc backend")
    return backend


def preset_names() -> tuple[str, ...]:
    """The targets that come with partc."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def load_target(name: str) -> Target:
    """A preset by its name, or a target file by its path.

    Raises:
        TargetError: neither exists, or the file is not a target.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in preset_names():
            raise TargetError(unknown_name("target", name, preset_names()))
        path = _PRESETS / f"{name}.toml"
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(
            f"target file {path} cannot be read: {error.strerror or error}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"target file {path} is not valid TOML: {error}") from error
    known = {"backend", "description", "optimization"}
    for key in data:
        if key not in known:
            raise TargetError(f"target file {path}: {unknown_name('key', key, known)}")
    if not all(isinstance(value, str) for value in data.values()) or "backend" not in data:
        raise TargetError(f'target file {path} needs backend = "NAME"; all values are text')
    return Target(
        name=path.stem,
        backend=data["backend"],
        description=data.get("description", ""),
        optimization=data.get("optimization", "all"),
        origin=path,
    )
