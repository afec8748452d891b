"""What blocks cost on hardware that cannot be measured: a roofline over its data sheet.

A block takes as long as its arithmetic at the peak rate or its memory traffic at the memory's
bandwidth, whichever is longer, each times what kernels are assumed to reach of the peak, plus the
start of a kernel (Williams, Waterman, Patterson: Roofline, CACM 2009). Nothing else of the backend
is known: an estimate says where the orders of magnitude lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from partc.errors import TargetError
from partc.ir.cost import Cost
from partc.ir.program import Block, Program
from partc.targets.hardware import Hardware, Kind, Precision
from partc.targets.op_work import OpWork, WorkKind, work_by_op
from partc.targets.protocol import RunSettings
from partc.targets.registry import Target


@dataclass(frozen=True)
class Estimates:
    """Costs that nobody measured; the provenance of each is ``estimated``.

    Attributes:
        blocks: block -> its cost.
        whole: all blocks in one segment.
        segment_fixed: what one more segment costs before it computes anything.
        precision: in which the hardware is taken to compute.
    """

    blocks: Mapping[str, Cost]
    whole: Cost
    segment_fixed: Cost
    precision: Precision


@dataclass(frozen=True)
class _Overheads:
    """Seconds that have nothing to do with a kernel's size."""

    kernel_s: float
    segment_s: float


# What kernels are assumed to reach of the peak, and to take to start: round figures, fitted to
# nothing. benchmarks/estimates.py prints how far off they are on a machine that can be measured.
_REACHED: Mapping[Kind, Mapping[WorkKind, float]] = {
    "cpu": {"dense": 0.6, "depthwise": 0.25, "recurrent": 0.2, "elementwise": 0.1, "move": 0.1},
    "gpu": {"dense": 0.4, "depthwise": 0.1, "recurrent": 0.05, "elementwise": 0.1, "move": 0.1},
    "npu": {"dense": 0.3, "depthwise": 0.05, "recurrent": 0.05, "elementwise": 0.05, "move": 0.05},
}
_REACHED_OF_BANDWIDTH = 0.7
_OVERHEADS: Mapping[Kind, _Overheads] = {
    "cpu": _Overheads(kernel_s=2e-6, segment_s=2e-5),
    "gpu": _Overheads(kernel_s=8e-6, segment_s=1e-4),
    "npu": _Overheads(kernel_s=1e-5, segment_s=5e-4),
}
_BYTES: Mapping[Precision, int] = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
# In which precision a type is computed, by preference; hardware without fp32 runs such models in
# what it has.
_PREFERRED: Mapping[str, tuple[Precision, ...]] = {
    "float64": ("fp64", "fp32", "fp16", "bf16", "int8"),
    "float32": ("fp32", "fp16", "bf16", "int8", "fp64"),
    "float16": ("fp16", "bf16", "fp32", "int8", "fp64"),
    "bfloat16": ("bf16", "fp16", "fp32", "int8", "fp64"),
    "int8": ("int8", "fp16", "bf16", "fp32", "fp64"),
    "uint8": ("int8", "fp16", "bf16", "fp32", "fp64"),
}
_QUANTISED_OPS = frozenset(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"))


def estimated_costs(
    program: Program, target: Target, settings: RunSettings, asked: Precision | None = None
) -> Estimates:
    """Costs of all blocks of ``program`` on ``target``.

    Args:
        program: with blocks, and shapes that are known.
        settings: a processor with ``cores`` works with as many of them as there are threads.
        asked: in which the host is to compute; the model's own where that is None, or nothing
            that the hardware has a rate for.

    Raises:
        TargetError: the target has no peak rates.
    """
    hardware = target.hardware
    if not hardware.has_rates:
        raise TargetError(
            f"costs on target {target.name!r} cannot be estimated: its file {target.origin} has "
            f"no [hardware.peak_flop_s]; add the rates of its {hardware.figures}, or measure it"
        )
    work = work_by_op(program)
    precision = _precision(program, hardware)
    if asked is not None and asked in hardware.computes_in:
        precision = asked
    roofline = _Roofline(hardware, precision, settings.threads, _weights_bytes(program, precision))
    blocks = {
        block.name: _estimate(roofline.seconds(program, block, work))
        for block in program.blocks or ()
    }
    fixed_s = _OVERHEADS[hardware.kind].segment_s
    whole_s = fixed_s + sum(cost.median_s for cost in blocks.values())
    return Estimates(blocks, _estimate(whole_s), _estimate(fixed_s), precision)


def _estimate(seconds: float) -> Cost:
    return Cost(median_s=seconds, spread_s=0.0, samples=0, provenance="estimated")


def _precision(program: Program, hardware: Hardware) -> Precision:
    """That of most of the model's arithmetic, as far as the hardware has it."""
    if any(op.op_type in _QUANTISED_OPS for op in program.ops):
        dtype = "int8"
    else:
        types = [info.dtype for info in program.tensors.values() if "float" in info.dtype]
        dtype = max(set(types), key=types.count) if types else "float32"
    offered = hardware.computes_in
    preferred = _PREFERRED.get(dtype, _PREFERRED["float32"])
    return next(precision for precision in preferred if precision in offered)


def _weights_bytes(program: Program, precision: Precision) -> float:
    """All weights, none stored wider than it is computed with."""
    return sum(_stored(program, weight, precision) for weight in program.weights)


def _stored(program: Program, weight: str, precision: Precision) -> float:
    size = float(program.weights[weight])
    float_bytes = {"1": 4, "10": 2, "11": 8, "16": 2}  # onnx.TensorProto's float types
    kind = program.weight_types.get(weight, "").partition("[")[0]
    return size * min(1.0, _BYTES[precision] / float_bytes.get(kind, 1))


@dataclass(frozen=True)
class _Roofline:
    hardware: Hardware
    precision: Precision
    threads: int
    weights_bytes: float

    def seconds(self, program: Program, block: Block, work: Mapping[str, OpWork]) -> float:
        hardware = self.hardware
        peak = hardware.peak_flop_s[self.precision] * self._share_of_cores
        reached = _REACHED[hardware.kind]
        arithmetic_s = math.fsum(
            work[op].flops / (peak * reached[work[op].kind]) for op in block.ops
        )
        memory_s = 0.0
        weights = sum(_stored(program, weight, self.precision) for weight in block.weights)
        if hardware.memory_bandwidth_bytes_per_s is not None:
            bandwidth = hardware.memory_bandwidth_bytes_per_s * _REACHED_OF_BANDWIDTH
            crossing = dict.fromkeys((*block.inputs, *block.outputs))
            moved = weights + sum(self._moved(program, tensor) for tensor in crossing)
            memory_s = moved / bandwidth
        if hardware.overflow_bandwidth_bytes_per_s is not None:
            late = weights * self._share_that_overflows
            memory_s = max(memory_s, late / hardware.overflow_bandwidth_bytes_per_s)
        return max(arithmetic_s, memory_s) + _OVERHEADS[hardware.kind].kernel_s

    @property
    def _share_of_cores(self) -> float:
        hardware = self.hardware
        if hardware.kind != "cpu" or hardware.cores is None:
            return 1.0
        return min(self.threads, hardware.cores) / hardware.cores

    @property
    def _share_that_overflows(self) -> float:
        if self.hardware.memory_mib is None or self.weights_bytes == 0:
            return 0.0
        fits = self.hardware.memory_mib * 2**20
        return max(0.0, 1.0 - fits / self.weights_bytes)

    def _moved(self, program: Program, tensor: str) -> float:
        info = program.tensors.get(tensor)
        if info is None or not info.is_sized:
            return 0.0
        if "float" not in info.dtype:
            return float(info.size_bytes)
        elements = math.prod(info.planned_shape or ())
        return float(min(info.size_bytes, elements * _BYTES[self.precision]))
