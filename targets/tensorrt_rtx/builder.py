"""For which GPUs engines are built ahead of time."""

from __future__ import annotations

from partc.ir.engine import Gpu
from partc.targets.tensorrt.detect import machine_of
from partc.targets.tensorrt.flavour import TENSORRT_RTX

DEFAULT_CAPABILITIES = ("8.6", "8.9", "12.0")
"""Built for where nobody says which GPU the host has: Ampere, Ada and Blackwell cards."""


def builders(capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
    """GPUs, none of which has to be here, and why there are none, or not more.

    Args:
        capabilities: what the user named; None for the GPU that is here or, without one,
            `DEFAULT_CAPABILITIES`.
    """
    machine = machine_of(TENSORRT_RTX.flavour)
    if not machine.version:
        return (), machine.reason
    here = (machine.gpu.compute_capability,) if machine.gpu is not None else ()
    wanted = capabilities or here or DEFAULT_CAPABILITIES
    possible = [each for each in wanted if each in TENSORRT_RTX.capabilities]
    missing = [each for each in wanted if each not in TENSORRT_RTX.capabilities]
    reason = (
        f"{TENSORRT_RTX.title} builds for compute capability "
        f"{', '.join(TENSORRT_RTX.capabilities)} ahead of time, not for {', '.join(missing)}"
        if missing
        else ""
    )
    return tuple(
        Gpu(
            flavour=TENSORRT_RTX.flavour,
            version=machine.version,
            compute_capability=each,
            platform=machine.platform,
        )
        for each in possible
    ), reason
