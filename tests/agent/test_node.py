"""Descriptions of machines that are not here: their files, as they write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from partc.agent.node import read_node
from partc.measure.power_mode import in_mode, power_mode, split_mode


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


ORIN = {
    "proc/meminfo": "MemTotal:        7800000 kB\nMemAvailable:    6000000 kB\nHugePages: 0\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=1 NAME=7W >\n# < POWER_MODEL ID=2 >\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1510400\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/thermal_zone2/type": "gpu-thermal\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "35850\n",
    "sys/class/hwmon/hwmon0/temp1_label": "Composite\n",
}


def test_a_jetson(tmp_path: Path) -> None:
    node = read_node(write(tmp_path, ORIN))
    assert node.power_mode == "7W"
    assert node.memory_bytes == 7_800_000 * 1024
    assert node.processor.governor == "schedutil"
    assert node.processor.highest_mhz == pytest.approx(1510.4)
    assert node.temperatures_c == {"cpu-thermal": 48.5, "nvme Composite": 35.85}
    assert node.system.startswith("Ubuntu 22.04.4 LTS")
    if not Path("/proc/driver/nvidia/gpus").exists():
        assert node.gpus[0].current_mhz == 306.0 and node.gpus[0].highest_mhz == 624.75


def test_power_modes(tmp_path: Path) -> None:
    assert power_mode(tmp_path) == ""
    write(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"})
    assert power_mode(tmp_path) == "powersave"
    write(tmp_path, {"sys/firmware/acpi/platform_profile": "low-power\n"})
    assert power_mode(tmp_path) == "low-power"
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0005"})
    assert power_mode(tmp_path) == "mode 5"
    write(tmp_path, ORIN)
    fixed = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1510400\n"}
    assert power_mode(write(tmp_path, fixed)) == "7W+fixed-clocks"


def test_a_mode_is_part_of_what_an_agent_says() -> None:
    assert split_mode(in_mode("onnxruntime-1/EPYC", "15W")) == ("onnxruntime-1/EPYC", "15W")
    assert split_mode(in_mode("onnxruntime-1/EPYC", "")) == ("onnxruntime-1/EPYC", "")


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    node = read_node(tmp_path)
    assert node.memory_bytes == 0 and node.power_mode == "" and node.temperatures_c == {}


def test_files_of_another_form(tmp_path: Path) -> None:
    node = read_node(write(tmp_path, dict.fromkeys(ORIN, "\x00\xff what\n")))
    assert node.memory_bytes == 0 and node.temperatures_c == {}
    assert node.power_mode == "" and node.processor.current_mhz is None
