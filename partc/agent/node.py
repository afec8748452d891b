"""What a node is and how it is at the moment, from the files that the system offers.

NVML is not asked: boards such as the Jetson do not have it. Nothing here fails; what a machine
does not show is left out.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from partc.agent.messages import Gpu, Processor
from partc.measure.machine import usable_cpus
from partc.measure.power_mode import power_mode
from partc.targets.machine import board_name, gpu_names, processor_name

ROOT = Path("/")
_CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq"
_DRIVER_VERSION = re.compile(r"Kernel Module\s+(?:for \S+\s+)?([0-9][0-9.]+)")


@dataclass(frozen=True)
class NodeState:
    """The part of a description that the system's files give."""

    hostname: str
    system: str
    machine: str
    board: str
    processor: Processor
    memory_bytes: int
    memory_available_bytes: int
    gpus: list[Gpu]
    power_mode: str
    temperatures_c: dict[str, float]


def read_node(root: Path = ROOT) -> NodeState:
    """How this machine is now.

    Args:
        root: where /proc, /sys, /etc and /var are.
    """
    memory = _memory(root)
    return NodeState(
        hostname=platform.node(),
        system=_system(root),
        machine=platform.machine(),
        board=board_name(),
        processor=_processor(root),
        memory_bytes=memory.get("MemTotal", 0),
        memory_available_bytes=memory.get("MemAvailable", 0),
        gpus=_gpus(root),
        power_mode=power_mode(root),
        temperatures_c=_temperatures(root),
    )


def _processor(root: Path) -> Processor:
    usable = usable_cpus()
    clocks = [_number(root / _CPUFREQ.format(cpu) / "scaling_cur_freq") for cpu in sorted(usable)]
    known = [clock for clock in clocks if clock is not None]
    return Processor(
        name=processor_name(),
        cores=os.cpu_count() or 1,
        usable=len(usable),
        governor=_first_line(root / _CPUFREQ.format(0) / "scaling_governor"),
        current_mhz=sum(known) / len(known) / 1e3 if known else None,
        highest_mhz=_scaled(_number(root / _CPUFREQ.format(0) / "cpuinfo_max_freq"), 1e-3),
    )


def _gpus(root: Path) -> list[Gpu]:
    found = _DRIVER_VERSION.search(_text(root / "proc/driver/nvidia/version"))
    driver = found.group(1) if found else ""
    clocks = _gpu_clocks(root)
    gpus = [Gpu(name=name, driver=driver, **clocks) for name in gpu_names()]
    if not gpus and clocks:  # a Jetson's is part of the chip, and has no name of its own
        gpus = [Gpu(name=f"integrated GPU of {board_name() or 'this board'}", **clocks)]
    return gpus


def _gpu_clocks(root: Path) -> dict[str, float | None]:
    for folder in _sorted(root / "sys/class/devfreq", "*"):
        if re.search(r"gpu|gv11b|gp10b|ga10b", folder.name) or "gpu" in _first_line(
            folder / "device" / "of_node" / "name"
        ).strip("\0"):
            return {
                "current_mhz": _scaled(_number(folder / "cur_freq"), 1e-6),
                "highest_mhz": _scaled(_number(folder / "max_freq"), 1e-6),
            }
    return {}


def _temperatures(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in _sorted(root / "sys/class/thermal", "thermal_zone*"):
        _add_temperature(found, _first_line(zone / "type") or zone.name, zone / "temp")
    for sensor in _sorted(root / "sys/class/hwmon", "hwmon*"):
        for path in _sorted(sensor, "temp*_input"):
            label = _first_line(path.with_name(path.name.replace("_input", "_label")))
            name = _first_line(sensor / "name") or sensor.name
            _add_temperature(found, f"{name} {label}".strip(), path)
    return found


def _add_temperature(found: dict[str, float], name: str, path: Path) -> None:
    value = _scaled(_number(path), 1e-3)
    if value is not None and -50 < value < 200 and len(found) < 100:
        found.setdefault(name, value)


def _memory(root: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in _text(root / "proc/meminfo").splitlines():
        key, _, rest = line.partition(":")
        number = rest.split()[0] if rest.split() else ""
        if number.isdecimal():
            found[key] = int(number) * 1024
    return found


def _system(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return f"{line.partition('=')[2].strip(chr(34))}, {platform.system()} {_kernel()}"
    return f"{platform.system()} {_kernel()}"


def _kernel() -> str:
    return platform.release()


def _sorted(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(folder.glob(pattern))
    except OSError:
        return


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _number(path: Path) -> float | None:
    try:
        return float(_first_line(path))
    except ValueError:
        return None


def _first_line(path: Path) -> str:
    lines = _text(path).splitlines()
    return lines[0].strip() if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
