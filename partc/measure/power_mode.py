"""The power mode of a machine, in which alone its costs hold, from the system's own files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
_MODE_LINE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_GOVERNOR = re.compile(r"[a-z][a-z_]{1,30}")
_IN_FINGERPRINT = "/power mode "


def power_mode(root: Path = ROOT) -> str:
    """A Jetson's mode by nvpmodel, else the firmware's profile, else the processor's governor.

    Where the clocks are fixed, as ``jetson_clocks`` does, ``+fixed-clocks`` follows. Empty where
    the machine shows none of them.

    Args:
        root: where /sys, /etc and /var are.
    """
    mode = _nvpmodel(root) or _first_line(root / "sys/firmware/acpi/platform_profile")
    governor = _first_line(root / _CPUFREQ / "scaling_governor")
    if not mode and _GOVERNOR.fullmatch(governor):
        mode = governor
    lowest, highest = (
        _first_line(root / _CPUFREQ / f"scaling_{end}_freq") for end in ("min", "max")
    )
    fixed = lowest.isdecimal() and lowest == highest
    return f"{mode}+fixed-clocks" if mode and fixed else mode


def in_mode(fingerprint: str, mode: str) -> str:
    """A node's fingerprint with its mode, as agents tell it."""
    return f"{fingerprint}{_IN_FINGERPRINT}{mode}" if mode else fingerprint


def split_mode(fingerprint: str) -> tuple[str, str]:
    """What `in_mode` put together."""
    bare, _, mode = fingerprint.partition(_IN_FINGERPRINT)
    return bare, mode


def _nvpmodel(root: Path) -> str:
    number = _first_line(root / "var/lib/nvpmodel/status").removeprefix("pmode:").strip()
    if not number.isdecimal():
        return ""
    names: dict[str, str] = dict(_MODE_LINE.findall(_text(root / "etc/nvpmodel.conf")))
    named = {str(int(key)): name for key, name in names.items()}
    return named.get(str(int(number)), f"mode {int(number)}")


def _first_line(path: Path) -> str:
    lines = _text(path).splitlines()
    return lines[0].strip() if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
