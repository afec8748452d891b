"""A model in the precision of a host: the same for what is deployed and for what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from partc.errors import PassError, TopologyError, UsageError
from partc.ir.engine import Precision
from partc.ir.program import Array, Program
from partc.ir.topology import Topology
from partc.passes.build.lowering import lowered
from partc.passes.contract import Context
from partc.passes.ingest.sample import sample_feeds
from partc.targets.engines import EngineBackend
from partc.targets.onnxruntime.quantize import quantised
from partc.targets.registry import backend_names, load_backend, load_target

_OPSET_OF_QUANTISATION = 13
_OPSET_OF_BF16 = 22


def rewritten(
    model: onnx.ModelProto, precision: Precision, samples: Iterable[Mapping[str, Array]]
) -> onnx.ModelProto:
    """What a host of that precision runs; for bf16 what its engine is built from.

    Args:
        samples: inputs from which int8 takes the ranges of tensors.

    Raises:
        PassError: the model's opset cannot be raised to one that has the types wanted.
        TargetError: the quantiser refuses the model.
    """
    if precision == "fp16":
        return lowered(model, "fp16").model
    if precision == "bf16":
        return lowered(for_bf16(model), "bf16").model
    if precision == "int8":
        return quantised(_of_opset(model, _OPSET_OF_QUANTISATION), samples)
    return model


def for_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset in which convolutions may be of bfloat16.

    Raises:
        PassError: ONNX cannot convert it.
    """
    return _of_opset(model, _OPSET_OF_BF16)


def _of_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """The model in an opset that has the types wanted; node names are kept, new nodes get some."""
    version = next(
        (each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0
    )
    if version >= least or version == 0:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, least)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter raises whatever goes wrong inside
        raise PassError(
            f"the model's opset {version} cannot be raised to {least}, which this precision "
            f"needs: {str(error).splitlines()[0]}; export the model with a newer opset, or take "
            "fp16"
        ) from error
    taken = {node.name for node in converted.graph.node}
    for index, node in enumerate(converted.graph.node):
        if not node.name:
            node.name = f"converted_{node.op_type}_{index}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
    return converted


def calibration_samples(program: Program, context: Context) -> list[Mapping[str, Array]]:
    """Inputs of the model from which int8 takes the ranges of its tensors.

    Raises:
        TopologyError: nobody gave any.
        UsageError: one is nothing that the model takes.
    """
    if not program.sample and not context.calibration:
        raise TopologyError(
            "precision int8 needs real samples, from which the ranges of its tensors are taken; "
            "give some with --calibration, or one with --input"
        )
    return _checked(program, context.calibration) or [sample_feeds(program, context.seed)]


def _checked(
    program: Program, calibration: tuple[Mapping[str, Array], ...]
) -> list[Mapping[str, Array]]:
    for number, feeds in enumerate(calibration, 1):
        for name in program.inputs:
            if name not in feeds:
                raise UsageError(f"calibration sample {number} has no input {name!r}")
            info, array = program.tensor(name), feeds[name]
            fits = info.shape is None or (
                len(info.shape) == array.ndim
                and all(
                    want == have
                    for want, have in zip(info.shape, array.shape, strict=True)
                    if isinstance(want, int)
                )
            )
            if array.dtype.name != info.dtype or not fits:
                raise UsageError(
                    f"calibration sample {number}: input {name!r} is {array.dtype} "
                    f"{array.shape} and the model takes {info.dtype} {info.shape}"
                )
    return [{name: feeds[name] for name in program.inputs} for feeds in calibration]


def refuse_bf16_without_engine(topology: Topology, host: str) -> None:
    """No processor's ONNX Runtime computes in bfloat16.

    Raises:
        TopologyError: the host is to, and its target builds no engines.
    """
    if topology.hosts[host].precision != "bf16":
        return
    target = load_target(topology.hosts[host].target)
    backend: object = None
    if target.backend in backend_names():
        backend = load_backend(target.backend)
    if not isinstance(backend, EngineBackend):
        raise TopologyError(
            f"host {host!r} is to compute in bf16, which only targets with engines do; take fp16 "
            "or int8, or a TensorRT target",
            host=host,
        )
