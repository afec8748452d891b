"""The whole model as a host of some precision would run it, and what it tells of the ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from partc.errors import PartcError
from partc.ir.engine import Precision
from partc.ir.program import Program
from partc.passes.build.rewriting import (
    calibration_samples,
    refuse_bf16_without_engine,
    rewritten,
)
from partc.passes.build.served_ops import served_ops
from partc.passes.contract import Context
from partc.targets.protocol import Profile


@dataclass(frozen=True)
class DeployedModel:
    """A program's model, rewritten as its segments will be.

    Attributes:
        op_of: node -> the op of the program that it is, or works for; None where nothing was
            rewritten.
    """

    model: onnx.ModelProto
    op_of: Mapping[str, str] | None = None

    def attributed(self, profile: Profile) -> Profile:
        """The profile of ``model`` as one of the program's own ops."""
        if self.op_of is None:
            return profile
        rows: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        for node, samples_s in profile.op_s.items():
            op = self.op_of.get(node)
            if op is not None:
                rows[op] = rows[op] + samples_s if op in rows else np.asarray(samples_s)
        return replace(profile, op_s={op: tuple(row.tolist()) for op, row in rows.items()})

    def grouped(self, groups: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Groups of nodes of ``model`` that run as one kernel, as groups of the program's ops.

        What is only there for an op joins it with no other: quantisation between two convolutions
        vanishes into both.
        """
        if self.op_of is None:
            return list(groups)
        found = [tuple(node for node in group if self.op_of.get(node) == node) for group in groups]
        return [group for group in found if len(group) > 1]


def deployed_model(program: Program, context: Context, host: str) -> DeployedModel:
    """The program's model as ``host`` would run it if it ran all of it.

    Raises:
        TopologyError: the host is to compute in what it cannot, or nobody gave samples for int8.
        UsageError: a calibration sample is nothing that the model takes.
        PassError, TargetError: the model cannot be rewritten.
    """
    precision: Precision = context.topology.hosts[host].precision
    if precision == "fp32":
        return DeployedModel(program.model)
    refuse_bf16_without_engine(context.topology, host)
    kept = context.kept.get(f"model in {precision}")
    if isinstance(kept, _Kept) and kept.original is program.model:
        return kept.deployed
    samples = calibration_samples(program, context) if precision == "int8" else []
    context.progress(f"writing the model in {precision}", None)
    try:
        model = rewritten(program.model, precision, samples)
    except PartcError as error:
        error.host = error.host or host
        raise
    placed = {op.name for op in program.placed_ops}
    served = served_ops(program.model, model)
    found = DeployedModel(model, {node: op for node, op in served.items() if op in placed})
    context.kept[f"model in {precision}"] = _Kept(program.model, found)
    return found


@dataclass(frozen=True)
class _Kept:
    original: onnx.ModelProto
    deployed: DeployedModel
