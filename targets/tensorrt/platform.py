"""The platform that an engine is bound to."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

_TEGRA = Path("/etc/nv_tegra_release")


def current_platform() -> str:
    """As ``linux-x86_64``; a Jetson is ``linux-aarch64-tegra``, a GPU server with Arm is not."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    name = f"{sys.platform}-{machine}"
    return f"{name}-tegra" if machine == "aarch64" and _TEGRA.exists() else name
