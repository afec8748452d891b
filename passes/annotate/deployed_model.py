"""The whole model as a host of some precision would run it, and what it tells of the ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from partc.errors import PartcError, PassError, TargetError
from partc.ir.engine import Precision
from partc.ir.program import Array, Program
from partc.passes.build.rewriting import (
    calibration_samples,
    refuse_bf16_without_engine,
    rewritten,
)
from partc.passes.build.served_ops import served_ops
from partc.passes.contract import Context
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import value_info
from partc.targets.data_sheet import DataSheetMeter
from partc.targets.meter import Meter
from partc.targets.onnxruntime.quantize import QUANTISED_OPS
from partc.targets.protocol import Profile

_TYPE_OF = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class DeployedModel:
    """A program's model, rewritten as its segments will be.

    Attributes:
        op_of: node -> the op of the program that it is, or works for; None where nothing was
            rewritten.
        precision: in which it computes.
    """

    model: onnx.ModelProto
    op_of: Mapping[str, str] | None = None
    precision: Precision = "fp32"

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

    def blamed(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """What a backend said of nodes of ``model``, by op of the program.

        What it says of the op's own node counts before what it says of a cast beside it.
        """
        if self.op_of is None:
            return dict(reasons)
        prefix = "" if self.precision == "fp32" else f"in {self.precision}, "
        served = [(node, op) for node in reasons if (op := self.op_of.get(node)) is not None]
        return {
            op: f"{prefix}{reasons[node]}"
            for node, op in sorted(served, key=lambda pair: pair[0] == pair[1])
        }


def deployed_model(
    program: Program, context: Context, host: str, *, drawn_will_do: bool = False
) -> DeployedModel:
    """The program's model as ``host`` would run it if it ran all of it.

    Args:
        drawn_will_do: where nobody gave samples for int8, take ranges from drawn numbers.

    Raises:
        TopologyError: the host is to compute in what it cannot, or nobody gave samples for int8.
        UsageError: a calibration sample is nothing that the model takes.
        PassError, TargetError: the model cannot be rewritten.
    """
    precision: Precision = context.topology.hosts[host].precision
    if precision == "fp32":
        return DeployedModel(program.model)
    refuse_bf16_without_engine(context.topology, host)
    drawn = precision == "int8" and drawn_will_do and not (program.sample or context.calibration)
    name = f"model in {precision}" + (", of drawn numbers" if drawn else "")
    kept = context.kept.get(name)
    if isinstance(kept, _Kept) and kept.original is program.model:
        return kept.deployed
    samples: list[Mapping[str, Array]] = []
    if precision == "int8":
        samples = (
            [sample_feeds(program, context.seed)]
            if drawn
            else calibration_samples(program, context)
        )
    context.progress(f"writing the model in {precision}", None)
    try:
        model = rewritten(program.model, precision, samples)
    except PartcError as error:
        error.host = error.host or host
        raise
    placed = {op.name for op in program.placed_ops}
    served = served_ops(program.model, model)
    op_of = {node: op for node, op in served.items() if op in placed}
    found = DeployedModel(model, op_of, precision)
    context.kept[name] = _Kept(program.model, found)
    return found


def asked_model(program: Program, context: Context, host: str, meter: Meter) -> DeployedModel:
    """What the backend of ``host`` is asked about, to learn which ops it can run: what is deployed.

    Ranges decide nothing of that, so int8 needs no samples for it. A list of ops in a data sheet is
    of ops as models have them.

    Raises:
        TopologyError, UsageError, PassError, TargetError: as `deployed_model`.
    """
    if isinstance(meter, DataSheetMeter) and meter.target.hardware.ops:
        return DeployedModel(program.model)
    deployed = deployed_model(program, context, host, drawn_will_do=True)
    return replace(deployed, model=_with_seen_shapes(program, deployed))


def _with_seen_shapes(program: Program, deployed: DeployedModel) -> onnx.ModelProto:
    """The model with the rank of tensors that ONNX cannot infer, and that were seen in a run.

    A parser that refuses one op is asked again about those behind it, and needs to know what they
    would read.
    """
    seen = {
        name
        for name, info in program.tensors.items()
        if info.kind == "tensor" and info.shape and all(dim is None for dim in info.shape)
    } - {*program.inputs, *program.outputs}
    if not seen:
        return deployed.model
    model = onnx.ModelProto()
    model.CopyFrom(deployed.model)
    known = [value for value in model.graph.value_info if value.name not in seen]
    for node in model.graph.node:
        own = program.nodes.get(node.name)
        for name, here in zip(own.output if own else (), node.output, strict=False):
            if name in seen:
                value = value_info(here, program.tensor(name))
                if here != name and deployed.precision in _TYPE_OF:
                    value.type.tensor_type.elem_type = _TYPE_OF[deployed.precision]
                known.append(value)
    del model.graph.value_info[:]
    model.graph.value_info.extend(known)
    return model


def asked_before_types(
    program: Program, context: Context, host: str, meter: Meter
) -> DeployedModel:
    """As `asked_model`, of a program whose types are not known yet.

    Nothing can be quantised then, so what would be is left out of the answer; and a model that
    cannot be rewritten is asked about as it is.
    """
    precision: Precision = context.topology.hosts[host].precision
    if precision == "int8":
        kept = {n.name: n.name for n in program.model.graph.node if n.op_type not in QUANTISED_OPS}
        return DeployedModel(program.model, kept)
    try:
        return asked_model(program, context, host, meter)
    except (PassError, TargetError):
        return DeployedModel(program.model)


@dataclass(frozen=True)
class _Kept:
    original: onnx.ModelProto
    deployed: DeployedModel
