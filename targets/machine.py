"""The names of this machine's processor, board and GPUs."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

_PROBE_TIMEOUT_S = 10.0


@cache
def processor_name() -> str:
    """The processor's name, or ``unknown``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


@cache
def board_name() -> str:
    """The board's name, as a device tree or the firmware gives it; empty where neither does."""
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if name := text.strip("\0 \n"):
            return name
    return ""


@cache
def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs, from the driver's files or its own program; never fails.

    The driver's files come first: boards such as the Jetson have no ``nvidia-smi`` that works.
    """
    return _from_driver() or _from_program()


def _from_driver() -> tuple[str, ...]:
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return tuple(name for name in found if name)


def _from_program() -> tuple[str, ...]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    if answer.returncode != 0:
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())


def machine_names() -> tuple[str, ...]:
    """Every name by which this machine may be recognised."""
    names = (processor_name(), board_name(), *gpu_names())
    return tuple(name for name in names if name and name != "unknown")
