"""Which GPU and which version are here. Asked in a process of its own, once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from partc.errors import TargetError
from partc.ir.engine import Gpu
from partc.targets.protocol import Detection
from partc.targets.tensorrt.apart import ask
from partc.targets.tensorrt.flavour import LIBRARIES, Library

_PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        version: of the library, or empty where none is installed that can be used.
        gpu: where engines can run; None where they cannot.
        reason: why they cannot, and what to do.
    """

    version: str
    platform: str
    gpu: Gpu | None
    reason: str


@cache
def machine_of(flavour: str) -> Machine:
    """Probe this machine, once in a process."""
    library = LIBRARIES[flavour]
    try:
        found = ask(library, {"job": "probe"}, timeout_s=_PROBE_TIMEOUT_S)
    except TargetError as error:
        return Machine("", "", None, f"{library.title} could not be probed: {error}")
    return machine_from(library, found)


def machine_from(library: Library, found: dict[str, Any]) -> Machine:
    """Read the probe's answer."""
    version, platform, gpu = found["library"], found["platform"], found["gpu"]
    if version is None:
        return Machine("", platform, None, found["reason"])
    if why := library.why_too_old(version):
        return Machine("", platform, None, why)
    if gpu is None:
        return Machine(
            version,
            platform,
            None,
            f"{library.title} {version} is installed, but there is no GPU that could run its "
            f"engines: {found['reason']}",
        )
    return Machine(
        version,
        platform,
        Gpu(flavour=library.flavour, version=version, platform=platform, **gpu),
        "",
    )


def detect(library: Library) -> Detection:
    """Available where library and GPU are."""
    machine = machine_of(library.flavour)
    name = f"{library.flavour}-{machine.version or 'none'}/{machine.platform}"
    if machine.gpu is None:
        return Detection(False, machine.reason, machine.version, f"{name}/no-gpu")
    gpu = machine.gpu
    return Detection(True, "", machine.version, f"{name}/{gpu.name}/{gpu.compute_capability}")
