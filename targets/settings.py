"""How a host of a topology executes its segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from partc.ir.engine import BuildOptions
from partc.ir.topology import Host
from partc.targets.engines import engine_backend
from partc.targets.protocol import RunSettings
from partc.targets.registry import Target, backend_names, load_target


class Deployed(Protocol):
    """A host's entry in a manifest."""

    @property
    def threads(self) -> int:
        """Of one segment's execution."""

    @property
    def optimization(self) -> str:
        """The backend's level."""

    @property
    def provider(self) -> str:
        """The backend's execution provider."""

    @property
    def provider_options(self) -> Mapping[str, str]:
        """Of the provider."""


def settings_of(entry: Deployed) -> RunSettings:
    """What a deployed host runs its segments with."""
    return RunSettings(
        threads=entry.threads,
        optimization=entry.optimization,
        provider=entry.provider,
        provider_options=tuple(sorted(entry.provider_options.items())),
    )


def run_settings(host: Host, target: Target | None = None) -> RunSettings:
    """What segments are deployed, and therefore measured, with.

    Raises:
        TargetError: the host's target is unknown.
    """
    target = target or load_target(host.target)
    return RunSettings(
        threads=host.threads,
        optimization=target.optimization,
        provider=target.provider,
        provider_options=target.provider_options,
        precision=host.precision,
        engine=host.engine.build if _may_build_engines(target.backend) else BuildOptions(),
    )


def _may_build_engines(backend: str) -> bool:
    """Of a backend that is not installed here, only the host's agent knows."""
    return backend not in backend_names() or engine_backend(backend) is not None
