"""How a host of a topology executes its segments."""

from __future__ import annotations

from partc.ir.topology import Host
from partc.targets.protocol import RunSettings
from partc.targets.registry import Target, load_target


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
    )
