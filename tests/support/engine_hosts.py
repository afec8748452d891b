"""A topology with a host that runs engines, and costs that draw ops there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from partc.ir.topology import Topology

_TARGET = """backend = "{backend}"
description = "a GPU of nobody's"
[hardware]
kind = "gpu"
memory_bandwidth_bytes_per_s = 1e12
recognised_by = ["no such GPU"]
[hardware.peak_flop_s]
fp32 = 50e12
fp16 = 100e12
int8 = 200e12
"""


def camera_and_gpu(folder: Path, backend: str = "tensorrt-rtx", **gpu: Any) -> Topology:
    """A slow camera and a fast GPU, so close that whatever the GPU can do goes there."""
    target = folder / f"{backend}.toml"
    target.write_text(_TARGET.format(backend=backend), encoding="utf-8")
    link = {"between": ["camera", "gpu"], "bandwidth_mbit_s": 1e6, "rtt_ms": 0.0, "fixed_ms": 0.0}
    return Topology.parse(
        {
            "hosts": {"camera": {"slowdown": 1000}, "gpu": {"target": str(target), **gpu}},
            "links": [link],
        }
    )
