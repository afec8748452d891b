"""TensorRT engines for Jetsons and GPU servers, and what TensorRT-RTX shares with it."""

from __future__ import annotations

from partc.targets.tensorrt.backend import TensorRtBackend
from partc.targets.tensorrt.flavour import TENSORRT

BACKEND = TensorRtBackend(TENSORRT)
