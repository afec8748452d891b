"""TensorRT-RTX engines for GeForce and RTX GPUs, built ahead of time on any machine.

Its Python API is TensorRT's, so the work is done in `partc.targets.tensorrt`; what differs is in
`partc.targets.tensorrt.flavour`.
"""

from __future__ import annotations

from partc.targets.tensorrt.backend import TensorRtBackend
from partc.targets.tensorrt.flavour import TENSORRT_RTX

BACKEND = TensorRtBackend(TENSORRT_RTX)
