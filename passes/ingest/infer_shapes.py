"""infer-shapes: the type, the shape as written and the shape for planning of every tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import onnx

from partc.errors import ModelError, UsageError
from partc.ir.program import Array, Program
from partc.ir.tensor import TensorInfo
from partc.passes import surgery
from partc.passes.contract import Context, Pass, PassResult
from partc.passes.ingest.sample import sample_feeds
from partc.passes.ingest.types import inferred_types, value_info
from partc.targets.reference import open_reference
from partc.targets.support import refuse_unknown_ops


@dataclass(frozen=True)
class InferShapes(Pass):
    """Annotates every tensor with its type and sizes.

    Shapes for planning come from the sample input, from ``--shape``, or else from a batch of 1.
    What ONNX's inference leaves open is observed by running the model once, so that no tensor
    of unknown size is ever counted as 0 bytes.
    """

    name: ClassVar[str] = "infer-shapes"
    kind: ClassVar[Literal["analysis", "transformation"]] = "analysis"
    requires: ClassVar[tuple[str, ...]] = ("well-formed",)
    ensures: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, program: Program, context: Context) -> PassResult:
        """Infer, bind, and observe what is still unknown."""
        refuse_unknown_ops(program, context.topology)
        written = inferred_types(program)
        bindings, notices = _bindings(program, written)
        planned = inferred_types(program, bindings)
        tensors: dict[str, TensorInfo] = {}
        for name in (*program.inputs, *program.producer):
            as_written = written.get(name, TensorInfo(name, "", None))
            as_planned = planned.get(name, as_written)
            tensors[name] = replace(
                as_written,
                dtype=as_written.dtype or as_planned.dtype,
                planned_shape=as_planned.planned_shape or _static(as_written),
                kind=as_planned.kind,
            )
        annotated = replace(program, bindings=bindings, tensors=tensors)
        annotated = _observe(annotated, context)
        return PassResult(
            replace(annotated, notices=(*program.notices, *notices)), True, tuple(notices)
        )


def _static(info: TensorInfo) -> tuple[int, ...] | None:
    return info.planned_shape


def _bindings(
    program: Program, written: dict[str, TensorInfo]
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    bindings: dict[str, tuple[int, ...]] = {}
    symbols: dict[str, int] = {}
    notices: list[str] = []
    for name in program.inputs:
        given = program.bindings.get(name)
        if name in program.sample:
            given = np.shape(program.sample[name])
        if given is not None:
            _match(name, written[name], given, symbols)
            bindings[name] = given
    for name in program.inputs:
        info = written[name]
        if name in bindings or info.kind != "tensor" or info.shape is None:
            continue
        dims: list[int] = []
        for axis, dim in enumerate(info.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif dim in symbols:
                dims.append(symbols[dim])
            elif axis == 0:
                dims.append(1)
                if isinstance(dim, str):
                    symbols[dim] = 1
                notices.append(
                    f"input {name!r} has a dynamic first dimension; planning for a batch of 1 "
                    f"(bind it with --shape {name}=...; the segments stay dynamic)"
                )
            else:
                example = ",".join(
                    str(d) if isinstance(d, int) else ("1" if i == 0 else "?")
                    for i, d in enumerate(info.shape)
                )
                raise UsageError(
                    f"dimension {axis} of input {name!r} is dynamic "
                    f"({dim if dim else 'unnamed'}); give --shape {name}={example} with numbers, "
                    "or a sample with --input"
                )
        bindings[name] = tuple(dims)
    return bindings, notices


def _match(name: str, info: TensorInfo, given: tuple[int, ...], symbols: dict[str, int]) -> None:
    if info.shape is None:
        return
    if len(given) != len(info.shape):
        raise UsageError(
            f"input {name!r} has {len(info.shape)} dimensions, the shape given for it {len(given)}"
        )
    for axis, (dim, size) in enumerate(zip(info.shape, given, strict=True)):
        expected = symbols.setdefault(dim, size) if isinstance(dim, str) else dim
        if size < 1 or (expected is not None and expected != size):
            raise UsageError(
                f"dimension {axis} of input {name!r} is {expected or 'at least 1'}, "
                f"but {size} was given for it"
            )


def _observe(program: Program, context: Context) -> Program:
    unknown = [
        info for info in program.tensors.values() if info.kind == "tensor" and not info.is_sized
    ]
    if not unknown:
        return program
    for info in unknown:
        if info.name in program.inputs:
            raise UsageError(
                f"the shape of input {info.name!r} is not in the model; "
                f"give --shape {info.name}=... or a sample with --input"
            )
    observed = _run_once(program, unknown, context)
    tensors = dict(program.tensors)
    ambiguous = _of_ambiguous_rank(program)
    for info in unknown:
        array = np.asarray(observed[info.name])
        dtype = "string" if array.dtype.kind in "OUS" else array.dtype.name
        shape = info.shape
        if shape is None and info.name not in ambiguous:
            shape = (None,) * array.ndim
        tensors[info.name] = replace(info, dtype=dtype, shape=shape, planned_shape=array.shape)
    return replace(program, tensors=tensors)


def _of_ambiguous_rank(program: Program) -> set[str]:
    """Tensors whose rank may differ from request to request: PyTorch writes ``squeeze`` as an If.

    Of a Loop or Scan, and of ops that inference does not know, one observation is enough.
    """
    found: set[str] = set()
    unknown = {name for name, info in program.tensors.items() if info.shape is None}
    for op in program.ops:
        may_differ = op.op_type in ("If", "Squeeze", "Reshape", "SequenceAt", "OptionalGetElement")
        if (
            may_differ
            or _has_conditional(program.nodes[op.name])
            or not found.isdisjoint(op.inputs)
        ):
            found.update(unknown.intersection(op.outputs))
    return found


def _has_conditional(node: onnx.NodeProto) -> bool:
    bodies = [body for a in node.attribute for body in (a.g, *a.graphs)]
    return any(
        inner.op_type == "If" or _has_conditional(inner) for body in bodies for inner in body.node
    )


def _run_once(program: Program, wanted: list[TensorInfo], context: Context) -> dict[str, Array]:
    context.progress("observing shapes", None)
    model = surgery.with_outputs(program.model, [value_info(info.name, info) for info in wanted])
    feeds = sample_feeds(program, context.seed)
    try:
        with open_reference(model) as runner:
            return runner.run(feeds)
    except Exception as error:
        source = "the sample given" if program.sample else "a random sample"
        raise ModelError(
            f"the model does not run on {source}, which is needed to find the size of "
            f"{wanted[0].name!r}: {error}; give an input that it accepts with --input"
        ) from error
