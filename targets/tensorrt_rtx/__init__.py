"""TensorRT-RTX engines for GeForce and RTX GPUs, built ahead of time on any machine.

Its Python API is TensorRT's, so detecting, parsing, profiling and running are those of
`partc.targets.tensorrt`, told apart by `partc.targets.tensorrt.flavour`. Of its own it has that it
builds for GPUs that are elsewhere.
"""

from __future__ import annotations

from partc.ir.engine import Gpu
from partc.targets.tensorrt.backend import TensorRtBackend
from partc.targets.tensorrt.flavour import TENSORRT_RTX


class TensorRtRtxBackend(TensorRtBackend):
    """TensorRT-RTX."""

    def builders(self, capabilities: tuple[str, ...] | None) -> tuple[tuple[Gpu, ...], str]:
        """GPUs that engines can be built for on any machine."""
        from partc.targets.tensorrt_rtx.builder import builders

        return builders(capabilities)


BACKEND = TensorRtRtxBackend(TENSORRT_RTX)
