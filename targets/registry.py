"""Finds backends and presets: built-ins and plug-ins come in by the same entry-point group."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from partc.errors import TargetError, UnknownTargetError
from partc.plugins import PluginGroup
from partc.suggest import unknown_name
from partc.targets.hardware import Hardware
from partc.targets.protocol import Backend
from partc.targets.target_file import read_target_file

BACKENDS = PluginGroup("partc.targets", "backend", TargetError)
_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Target:
    """What a host is: a backend and the hardware it runs on.

    Attributes:
        backend: name of the backend that executes and profiles; it may be one that is not
            installed, and then costs come from elsewhere.
        description: one line for people.
        optimization: the backend's level at which segments are deployed.
        origin: the file it was read from.
        missing: what to do where the backend is not installed.
        provider: which of the backend's execution providers runs the segments; empty for its
            own choice.
        provider_options: of the provider, sorted by name.
        hardware: what the data sheet says.
    """

    name: str
    backend: str
    description: str
    optimization: str
    origin: Path
    missing: str = ""
    provider: str = ""
    provider_options: tuple[tuple[str, str], ...] = ()
    hardware: Hardware = field(default_factory=Hardware, compare=False)


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
        UnknownTargetError: no preset has that name.
        TargetError: the file does not exist, or is not a target.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in preset_names():
            raise UnknownTargetError(unknown_name("target", name, preset_names()))
        path = _PRESETS / f"{name}.toml"
    file = read_target_file(path)
    return Target(
        name=path.stem,
        backend=file.backend,
        description=file.description,
        optimization=file.optimization,
        origin=path,
        missing=file.missing,
        provider=file.provider,
        provider_options=tuple(sorted(file.provider_options.items())),
        hardware=file.hardware,
    )
